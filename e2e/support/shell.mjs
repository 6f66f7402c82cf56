// Runs real programs: curl, a shell line, lokid's command line.

import { execFile } from 'node:child_process';

/** What a child gets from our environment: no proxies, no settings of lokid, no home. */
export function cleanEnvironment(more = {}) {
  return { PATH: process.env.PATH, LANG: 'C.UTF-8', ...more };
}

/** Runs a program to its end. Never rejects for an exit code: the story judges it. */
export function run(program, args, { env = {}, input, cwd, timeout = 30_000 } = {}) {
  return new Promise((resolve, reject) => {
    const options = { env: cleanEnvironment(env), cwd, timeout, maxBuffer: 16 << 20 };
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') return reject(error);
      return resolve({ code: error?.code ?? 0, stdout, stderr });
    });
    child.stdin.end(input);
  });
}

/** Calls `url` with curl and reads the answer; `body` is parsed when it is JSON. */
export async function curl(url, { token, scheme = 'Bearer', method, json } = {}) {
  const args = ['--silent', '--show-error', '--include', '--max-time', '20'];
  if (token) args.push('--header', `Authorization: ${scheme} ${token}`);
  if (method) args.push('--request', method);
  if (json) args.push('--header', 'Content-Type: application/json', '--data', JSON.stringify(json));
  const { code, stdout, stderr } = await run('curl', [...args, url]);
  if (code !== 0) throw new Error(`curl ended with ${code}: ${stderr}`);
  return readAnswer(stdout);
}

function readAnswer(stdout) {
  const gap = stdout.indexOf('\r\n\r\n');
  const [statusLine, ...headerLines] = stdout.slice(0, gap).split('\r\n');
  const text = stdout.slice(gap + 4);
  const headers = new Map(headerLines.map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
  const isJson = /[/+]json/.test(headers.get('content-type') ?? '');
  return { status: Number(statusLine.split(' ')[1]), headers, text, body: isJson && text ? JSON.parse(text) : undefined };
}
