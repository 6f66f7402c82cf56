// A PostgreSQL of our own: made in a temporary directory, on its own port, ended with the file's stories.

import { execFileSync, spawn } from 'node:child_process';
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './deadline.mjs';
import { mustUndo } from './endings.mjs';
import { freePort } from './ports.mjs';
import { cleanEnvironment, run } from './shell.mjs';

const OWNER = 'loki';
const PASSWORD = 'a-password-for-stories';
const DEBIAN_HOME = '/usr/lib/postgresql';

let cluster;
let databases = 0;

/** Where `initdb` is, or undefined when PostgreSQL is not installed. */
export function postgresPrograms() {
  const versions = existsSync(DEBIAN_HOME) ? readdirSync(DEBIAN_HOME).sort((a, b) => b - a) : [];
  const places = [process.env.PG_BIN, ...versions.map((version) => join(DEBIAN_HOME, version, 'bin'))];
  const onPath = (process.env.PATH ?? '').split(':');
  return [...places, ...onPath].find((place) => place && existsSync(join(place, 'initdb')));
}

/** A new, empty database. Starts the cluster when it is the first. */
export async function newDatabase() {
  cluster ??= startCluster();
  const { port } = await cluster;
  databases += 1;
  const name = `story_${databases}`;
  await sql(port, 'postgres', `CREATE DATABASE ${name}`);
  return `postgres://${OWNER}:${PASSWORD}@127.0.0.1:${port}/${name}`;
}

/** Runs one statement through psql and returns its rows as text. */
export async function sql(port, database, statement) {
  const args = ['-h', '127.0.0.1', '-p', String(port), '-U', OWNER, '-d', database, '-Atq', '-c', statement];
  const { code, stdout, stderr } = await run(join(postgresPrograms(), 'psql'), args, { env: { PGPASSWORD: PASSWORD } });
  if (code !== 0) throw new Error(`psql: ${stderr}`);
  return stdout.trim();
}

export async function endPostgres() {
  if (!cluster) return;
  const { server, directory, removed } = await cluster;
  cluster = undefined;
  if (server.exitCode === null) {
    const ended = once(server, 'exit');
    server.kill('SIGINT'); // fast shutdown
    await ended;
  }
  await rm(directory, { recursive: true, force: true });
  removed();
}

async function startCluster() {
  const bin = postgresPrograms();
  const as = unprivileged();
  const directory = await mkdtemp(join(tmpdir(), 'lokid-e2e-postgres-'));
  const removed = mustUndo(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  const data = join(directory, 'data');
  const passwordFile = join(directory, 'password');
  await writeFile(passwordFile, PASSWORD);
  if (as.uid !== undefined) {
    for (const path of [directory, passwordFile]) await chown(path, as.uid, as.gid);
  }
  const environment = cleanEnvironment();
  execFileSync(join(bin, 'initdb'), [
    '--pgdata', data, '--username', OWNER, '--pwfile', passwordFile, '--auth', 'scram-sha-256',
    '--encoding', 'UTF8', '--locale', 'C', '--no-sync', '--no-instructions',
  ], { ...as, cwd: directory, env: environment, stdio: ['ignore', 'ignore', 'inherit'] });

  const port = await freePort();
  const server = spawn(join(bin, 'postgres'), [
    '-D', data, '-p', String(port), '-k', directory, '-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off',
  ], { ...as, cwd: directory, env: environment, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  server.stderr.on('data', (chunk) => { log += chunk; });
  server.once('exit', mustUndo(() => server.kill('SIGQUIT')));
  await until(() => {
    if (server.exitCode !== null) throw new Error(`postgres ended: ${log}`);
    return sql(port, 'postgres', 'SELECT 1');
  }, { what: 'PostgreSQL answers', within: 30_000 });
  return { server, port, directory, removed };
}

/** PostgreSQL refuses to run as root: then it runs as the user its package made. */
function unprivileged() {
  if (process.getuid() !== 0) return {};
  const id = (flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}
