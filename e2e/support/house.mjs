// Everything a story needs under one roof: a provider, a database, lokid, and people with browsers.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { newPerson } from './browser.mjs';
import { CLIENT_ID, CLIENT_SECRET, introduce } from './clients.mjs';
import { mustUndo } from './endings.mjs';
import { Lokid } from './lokid.mjs';
import { freePort } from './ports.mjs';
import { newDatabase } from './postgres.mjs';
import { startProvider } from './provider.mjs';

const FAILURES = fileURLToPath(new URL('../out/failures/', import.meta.url));
export const PROVIDER_NAME = 'Example';

/**
 * Opens a house. `database` is `sqlite` or `postgres`; `way` is how lokid proves itself to the provider;
 * `oidc` and `rbac` are merged into those settings; `providerUp: false` starts lokid without a provider to reach.
 * `script` is what a run does: a shell script that gets the PRD's path.
 * `surround({ port })` builds what stands around lokid: its `url` from outside, settings, and what to open and close.
 */
export async function openHouse({ database = 'sqlite', way, oidc = {}, rbac = {}, providerUp = true, surround, script = 'cat "$1"\n' } = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'lokid-e2e-'));
  const removed = mustUndo(() => rmSync(directory, { recursive: true, force: true }));
  const workspace = join(directory, 'work');
  await mkdir(workspace);
  await writeFile(join(workspace, 'prd.md'), '- hang the door\n- paint it green\n');
  await writeFile(join(directory, 'work.sh'), script);
  const port = await freePort();
  const around = await surround?.({ port });
  const url = around?.url ?? `http://localhost:${port}`;
  const secret = randomBytes(32).toString('base64url');
  const provider = await startProvider();
  const client = await introduce(provider, { url, way, directory });
  const settings = {
    server: { host: '127.0.0.1', port, public_url: url, secret, ...around?.server },
    certs_dir: join(directory, 'certs'),
    certificates: { allow: [{ roles: ['admin'], domains: ['*.example.com'] }] },
    database: { url: database === 'postgres' ? await newDatabase() : `sqlite://${join(directory, 'loki.db')}` },
    enterprise: {
      auth: {
        enabled: true,
        jwt: [{
          preset: 'github-actions', audience: 'https://loki.example.com', jwks_url: 'http://127.0.0.1:9/keys',
          rules: [{ name: 'deploy', claims: { repository_id: '42', environment: 'prod' } }],
        }],
        oidc: [{
          id: 'main', name: PROVIDER_NAME, issuer: provider.issuer, ...client,
          scopes: ['openid', 'email', 'profile'], groups_claim: 'groups', userinfo: 'when_needed', ...oidc,
        }],
      },
      rbac: {
        default_role: 'viewer',
        oidc_role_mapping: { admins: 'admin', operators: 'operator', auditors: 'auditor' },
        ...rbac,
      },
    },
    runs: { command: ['/bin/sh', join(directory, 'work.sh'), '{prd}'], workspace, stop_grace: '2s' },
    ...around?.settings,
  };
  const house = new House({ directory, workspace, removed, url, provider, around, lokid: new Lokid({ directory, settings }) });
  house.secrets.add(CLIENT_SECRET).add(secret);
  if (database === 'postgres') house.secrets.add(new URL(settings.database.url).password);
  try {
    if (!providerUp) await provider.stop();
    await house.lokid.start();
    await around?.open?.(house);
  } catch (error) {
    await house.close();
    throw error;
  }
  return house;
}

class House {
  people = [];
  /** What must never show up in lokid's output. Whoever learns a secret in a story adds it. */
  secrets = new Set();

  constructor(parts) {
    Object.assign(this, parts, { clientId: CLIENT_ID });
  }

  /** A new person with a browser of their own. */
  async person(options) {
    const person = { house: this, url: this.url, ...await newPerson(options) };
    this.people.push(person);
    return person;
  }

  /** What must hold at the end of every story. */
  checkManners() {
    assert.deepEqual(this.people.flatMap(({ complaints }) => complaints), [], 'the browser complained');
    const output = this.lokid.stdout + this.lokid.stderr;
    for (const secret of this.secrets) {
      assert.ok(!output.includes(secret), `lokid wrote a secret that begins with ${secret.slice(0, 8)}`);
    }
    assert.doesNotMatch(output, /panicked at/);
  }

  /** Pictures of every open page, and lokid's last words. */
  async describe(title) {
    await mkdir(FAILURES, { recursive: true });
    const name = title.replaceAll(/[^\w]+/g, '-');
    const pages = this.people.flatMap(({ context }) => context.pages());
    await Promise.all(pages.map((page, index) => page
      .screenshot({ path: join(FAILURES, `${name}-${index + 1}.png`), fullPage: true, timeout: 5_000 })
      .catch(() => {})));
    const places = pages.map((page, index) => `page ${index + 1}: ${page.url()}`);
    return [...places, this.lokid.output()].join('\n');
  }

  async close() {
    await Promise.all(this.people.map(({ context }) => context.close()));
    try {
      return await this.lokid.stop();
    } finally {
      await this.around?.close?.();
      await this.provider.stop();
      await rm(this.directory, { recursive: true, force: true });
      this.removed();
    }
  }
}
