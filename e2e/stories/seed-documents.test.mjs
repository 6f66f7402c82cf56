// The lines of the seed document run as written: only the port and the token's placeholder are filled in.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { until } from '../support/deadline.mjs';
import { mint, signIn } from '../support/pages.mjs';
import { cleanEnvironment, curl, run } from '../support/shell.mjs';
import { story } from '../support/story.mjs';

const STATES = ['idle', 'running', 'paused', 'stopped'];
const hasRequests = spawnSync('python3', ['-c', 'import requests'], { env: cleanEnvironment() }).status === 0;

/** A file of `seeds/` with this house's port and a token in place of the placeholders. */
async function asWritten(house, name, secret) {
  const text = await readFile(new URL(`../seeds/${name}`, import.meta.url), 'utf8');
  const { port } = new URL(house.url);
  assert.match(text, /(localhost|loki-server):57374/);
  return text.replaceAll(/(localhost|loki-server):57374/g, `localhost:${port}`).replaceAll('loki_xxx...', secret);
}

async function tokenMadeOnThePage(house, scopes) {
  const admin = await house.person();
  await signIn(admin, 'admin');
  return mint(admin, { name: 'seed', scopes });
}

story('both curl lines for the status print it', async (house) => {
  const secret = await tokenMadeOnThePage(house, ['read']);
  for (const name of ['status.sh', 'verify-scopes.sh']) {
    const { stdout, stderr } = await run('sh', ['-c', await asWritten(house, name, secret)], { env: { LOKI_TOKEN: secret } });
    const status = JSON.parse(stdout);
    assert.ok(STATES.includes(status.status), stdout);
    assert.equal(status.database_connected, true);
    if (name === 'verify-scopes.sh') assert.match(stderr, /< HTTP\/1\.1 200/);
  }
});

/** The newest run, once it has ended. */
async function ended(house, token) {
  return until(async () => {
    const { body } = await curl(`${house.url}/api/v2/runs?limit=1`, { token });
    return ['completed', 'failed', 'stopped'].includes(body.runs[0]?.status) && body.runs[0];
  }, { what: 'the run has ended', within: 10_000 });
}

story("the workflow's curl starts a run from the file of the workspace", async (house) => {
  const secret = await tokenMadeOnThePage(house, ['control']);
  const { code, stdout, stderr } = await run('sh', ['-c', await asWritten(house, 'workflow.sh', secret)], { env: { LOKI_TOKEN: secret } });
  assert.equal(code, 0, stderr);
  const started = JSON.parse(stdout);
  assert.equal(started.success, true, stdout);
  assert.ok(started.pid > 0, stdout);
  const { id, status, prd } = await ended(house, secret);
  assert.deepEqual([id, status, prd], [started.run_id, 'completed', './prd.md']);
  const { body: lines } = await curl(`${house.url}/api/logs?lines=10&run_id=${id}`, { token: secret });
  assert.deepEqual(lines.map(({ message, level }) => [message, level]), [['- hang the door', 'info'], ['- paint it green', 'info']]);
});

story('the Python class starts a run', {
  skip: hasRequests ? false : 'python3 cannot import requests: pip install requests',
}, async (house) => {
  const secret = await tokenMadeOnThePage(house, ['control']);
  const program = `${await asWritten(house, 'client.py', secret)}\nprint(client.start_session("./prd.md")["run_id"])\n`;
  const { code, stdout, stderr } = await run('python3', ['-c', program]);
  assert.equal(code, 0, stderr);
  assert.equal((await ended(house, secret)).id, stdout.trim().split('\n').at(-1));
});

story('the Python class reads the status', {
  skip: hasRequests ? false : 'python3 cannot import requests: pip install requests',
}, async (house) => {
  const secret = await tokenMadeOnThePage(house, ['read']);
  const { code, stdout, stderr } = await run('python3', ['-c', await asWritten(house, 'client.py', secret)]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, new RegExp(`'status': '(${STATES.join('|')})'`));
});

story('the token requests of the document create, list and revoke', async (house) => {
  const admin = await tokenMadeOnThePage(house, ['*']);
  const tokens = `${house.url}/api/enterprise/tokens`;
  const created = await curl(tokens, {
    token: admin, method: 'POST', json: { name: 'ci-bot', scopes: ['read', 'write'], expires_days: 30 },
  });
  assert.equal(created.status, 201, created.text);
  const { id, token } = created.body;
  house.secrets.add(token);
  assert.match(id, /^tok-/);
  assert.equal(created.headers.get('cache-control'), 'no-store');

  const listed = await curl(tokens, { token: admin });
  assert.ok(listed.body.some((each) => each.id === id));
  assert.ok(!listed.text.includes(token));

  assert.equal((await curl(`${house.url}/api/status`, { token })).status, 200);
  assert.equal((await curl(tokens, { token })).status, 403, 'read and write do not manage tokens');
  const revoked = await curl(`${tokens}/${id}`, { token: admin, method: 'DELETE' });
  assert.deepEqual(revoked.body, { status: 'ok', action: 'revoke', identifier: id });
  assert.equal((await curl(`${house.url}/api/status`, { token })).status, 401);
});

story('the command line makes a token beside the running server, shows it once, and revokes it', async (house) => {
  const made = await house.lokid.command('enterprise', 'token', 'generate', 'ci-bot', '--scopes', 'read,write', '--expires', '30');
  assert.equal(made.code, 0, made.stderr);
  const secret = /^\s*Token:\s*(loki_\S+)$/m.exec(made.stdout)?.[1];
  assert.ok(secret, made.stdout);
  house.secrets.add(secret);
  assert.match(made.stdout, /Token generated successfully!\s+Name:\s+ci-bot\s+ID:\s+tok-\S+\s+Token:\s+\S+\s+Scopes:\s+read, write\s+Expires:\s+\d{4}-\d\d-\d\d\s+IMPORTANT: Save this token - it won't be shown again!/);

  const status = async () => (await curl(`${house.url}/api/status`, { token: secret })).status;
  assert.equal(await status(), 200);
  const listed = await house.lokid.command('enterprise', 'token', 'list');
  assert.match(listed.stdout, /ci-bot/);
  assert.ok(!listed.stdout.includes(secret));

  const revoked = await house.lokid.command('enterprise', 'token', 'revoke', 'ci-bot');
  assert.equal(revoked.code, 0, revoked.stderr);
  await until(async () => await status() === 401, { what: 'the running server refuses it', within: 1_000 });
  const all = await house.lokid.command('enterprise', 'token', 'list', '--all');
  assert.match(all.stdout, /ci-bot/);
});
