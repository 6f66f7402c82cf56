// The real binary, with its own directory, port and configuration file. Ended by its own process id.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { final, until } from './deadline.mjs';
import { mustUndo } from './endings.mjs';
import { cleanEnvironment, run } from './shell.mjs';
import { toYaml } from './yaml.mjs';

const BUILT = fileURLToPath(new URL('../../target/release/lokid', import.meta.url));
const GRACE_MS = 15_000;

export function lokidBinary() {
  const binary = process.env.LOKID_BIN ?? BUILT;
  if (!existsSync(binary)) {
    throw final(`there is no lokid at ${binary}: build it (cargo build --release) or set LOKID_BIN`);
  }
  return binary;
}

export class Lokid {
  stdout = '';
  stderr = '';
  #child;

  constructor({ directory, settings, env = {} }) {
    this.directory = directory;
    this.settings = settings;
    this.configFile = join(directory, 'config.yaml');
    this.env = { HOME: directory, ...env };
  }

  get url() {
    return this.settings.server.public_url;
  }

  /** Starts the server and waits until it says it is ready. */
  async start() {
    await writeFile(this.configFile, toYaml(this.settings), { mode: 0o600 });
    const child = spawn(lokidBinary(), ['start', '--config', this.configFile], {
      cwd: this.directory, env: cleanEnvironment(this.env), stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    child.stdout.on('data', (chunk) => { this.stdout += chunk; });
    child.stderr.on('data', (chunk) => { this.stderr += chunk; });
    child.on('error', (error) => { this.stderr += error.message; });
    child.once('exit', mustUndo(() => child.kill('SIGKILL')));
    await until(async () => {
      if (child.exitCode !== null || child.signalCode) {
        throw final(`lokid ended with ${child.exitCode ?? child.signalCode} before it was ready:\n${this.output()}`);
      }
      return (await fetch(`http://127.0.0.1:${this.settings.server.port}/readyz`)).status === 200;
    }, { what: 'lokid is ready', within: 20_000 });
  }

  /** Asks it to end with SIGTERM and waits; returns the exit code. */
  async stop() {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode) return child?.exitCode;
    const exited = once(child, 'exit');
    const impatient = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
    child.kill('SIGTERM');
    const [code, signal] = await exited;
    clearTimeout(impatient);
    if (signal === 'SIGKILL') throw new Error(`lokid did not end within ${GRACE_MS} ms of SIGTERM:\n${this.output()}`);
    return code;
  }

  async restart(changes = {}) {
    await this.stop();
    Object.assign(this.settings, changes);
    await this.start();
  }

  /** Runs a command of lokid's command line with the server's configuration. */
  command(...args) {
    return run(lokidBinary(), args, { cwd: this.directory, env: { ...this.env, LOKI_CONFIG: this.configFile } });
  }

  output() {
    const tail = (text) => text.split('\n').slice(-60).join('\n');
    return `--- stdout\n${tail(this.stdout)}\n--- stderr\n${tail(this.stderr)}`;
  }
}
