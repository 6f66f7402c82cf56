// Other apps check assertions with libraries of their own, for every kind of key that lokid signs with.

import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { curl, run } from '../support/shell.mjs';
import { story } from '../support/story.mjs';
import { hasPyJwt, joseApp, pythonApp } from '../support/verifiers.mjs';

const APP = 'grafana.example.com';
const OTHER_APP = 'wiki.example.com';
const kinds = [
  { alg: 'ES256', make: ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'] },
  { alg: 'ES384', make: ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384'] },
  { alg: 'RS256', make: ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'] },
  { alg: 'EdDSA', make: ['-algorithm', 'ED25519'] },
];

/** A key made by OpenSSL, in a file of its own; returns the file. */
async function openSslKey(house, { alg, make }) {
  const file = join(house.directory, `${alg}.pem`);
  await writeFile(file, '', { mode: 0o600 });
  const { code, stderr } = await run('openssl', ['genpkey', ...make, '-out', file]);
  assert.equal(code, 0, stderr);
  await chmod(file, 0o600);
  return file;
}

/** Restarts lokid with these signing keys and two apps behind it. */
async function signWith(house, file) {
  const { server } = house.lokid.settings;
  const rules = [{ scope: 'read' }];
  await house.lokid.restart({
    server: { ...server, trusted_proxies: ['127.0.0.1'] },
    signing_key_file: file,
    forward_auth: { apps: [{ host: APP, rules }, { host: OTHER_APP, rules }] },
  });
}

async function tokenFromTheTerminal(house) {
  const { code, stdout, stderr } = await house.lokid.command('enterprise', 'token', 'generate', 'caller', '--scopes', 'read', '--json');
  assert.equal(code, 0, stderr);
  const { id, token } = JSON.parse(stdout);
  house.secrets.add(token);
  return { id, token };
}

async function assertionFor(house, token, app) {
  const { status, body, text } = await curl(`${house.url}/auth/assertion?app=${app}`, { token });
  assert.equal(status, 200, text);
  house.secrets.add(body.assertion);
  return body.assertion;
}

/** The last character but one of the signature is another; the last may hold bits that are not read. */
function forged(assertion) {
  const at = assertion.length - 5;
  return assertion.slice(0, at) + (assertion[at] === 'A' ? 'B' : 'A') + assertion.slice(at + 1);
}

async function judge(house, newApp) {
  const { id, token } = await tokenFromTheTerminal(house);
  for (const kind of kinds) {
    await signWith(house, await openSslKey(house, kind));
    const check = newApp(house.url);
    const assertion = await assertionFor(house, token, APP);
    const asked = { audience: APP, alg: kind.alg };
    await assert.rejects(check(forged(assertion), asked), `${kind.alg}: forged`);
    await assert.rejects(check(await assertionFor(house, token, OTHER_APP), asked), `${kind.alg}: for another app`);
    await assert.rejects(check(token, asked), `${kind.alg}: a token`);
    const claims = await check(assertion, asked);
    assert.equal(claims.sid, id);
    assert.deepEqual([claims.iss, claims.aud, claims.groups, claims.email], [house.url, APP, [], '']);
    assert.equal(claims.exp - claims.iat, 300);
  }
}

story('jose verifies what each kind of key signed', (house) => judge(house, joseApp));

story('PyJWT verifies what each kind of key signed', {
  skip: hasPyJwt ? false : 'PyJWT is not installed: run .ci/setup',
}, (house) => judge(house, pythonApp));

story('jose follows a ring of keys in one file, also of different kinds', async (house) => {
  const { token } = await tokenFromTheTerminal(house);
  const files = [];
  for (const kind of kinds) files.push(await openSslKey(house, kind));
  const ring = join(house.directory, 'ring.pem');
  const { stdout } = await run('cat', files);
  await writeFile(ring, stdout, { mode: 0o600 });
  await signWith(house, ring);
  const check = joseApp(house.url);
  const set = await curl(`${house.url}/.well-known/jwks.json`);
  assert.deepEqual(set.body.keys.map(({ alg }) => alg), kinds.map(({ alg }) => alg));
  assert.equal((await check(await assertionFor(house, token, APP), { audience: APP, alg: 'ES256' })).aud, APP);
  await assert.rejects(check(await assertionFor(house, token, APP), { audience: APP, alg: 'ES384' }), 'of an algorithm that the app does not expect');
});
