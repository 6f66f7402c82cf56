// A team's other app and the nginx in front of it and of lokid, all under one parent domain, with TLS.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './deadline.mjs';
import { mustUndo } from './endings.mjs';
import { freePort } from './ports.mjs';

const DOMAIN = 'team.example';
const NGINX = ['/usr/sbin/nginx', '/usr/bin/nginx'].find((path) => existsSync(path));

export const nginxIsMissing = NGINX ? false : 'nginx is not installed';

/** For `openHouse({ surround })`: `rules` are those of the app; `house.around.app` is its address. */
export const neighbours = (rules) => async ({ port }) => {
  const [front, appPort] = [await freePort(), await freePort()];
  const directory = mkdtempSync(join(tmpdir(), 'lokid-neighbours-'));
  const removed = mustUndo(() => rmSync(directory, { recursive: true, force: true }));
  const host = `app.${DOMAIN}:${front}`;
  const app = createServer((request, response) => {
    const { url, headers } = request;
    response.writeHead(200, { 'content-type': 'text/html' });
    response.end(`<title>App</title><h1>App</h1><pre>${JSON.stringify({ url, headers })}</pre>`);
  });
  let nginx;
  return {
    app: `https://${host}`,
    url: `https://login.${DOMAIN}:${front}`,
    server: { trusted_proxies: ['127.0.0.1'] },
    settings: { forward_auth: { cookie_domain: DOMAIN, apps: [{ host, public: ['/public'], rules }] } },
    async open(house) {
      app.listen(appPort, '127.0.0.1');
      await once(app, 'listening');
      const { stdout: printed } = await house.lokid.command('proxy-config', 'nginx');
      await writeFile(join(directory, 'nginx.conf'), configuration({ directory, front, port, appPort, printed }));
      certify(directory);
      nginx = spawn(NGINX, ['-p', directory, '-c', 'nginx.conf', '-e', 'stderr'], { stdio: 'ignore' });
      nginx.once('exit', mustUndo(() => nginx.kill('SIGKILL')));
      await until(() => listens(front), { what: `nginx listens on ${front}`, within: 10_000 });
    },
    async close() {
      if (nginx && nginx.exitCode === null) {
        const ended = once(nginx, 'exit');
        nginx.kill('SIGTERM');
        await ended;
      }
      app.closeAllConnections();
      app.close();
      rmSync(directory, { recursive: true, force: true });
      removed();
    },
  };
};

function listens(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => { socket.end(); resolve(true); });
    socket.once('error', () => resolve(false));
  });
}

function certify(directory) {
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', `/CN=*.${DOMAIN}`,
    '-addext', `subjectAltName=DNS:*.${DOMAIN}`, '-keyout', join(directory, 'key.pem'), '-out', join(directory, 'cert.pem'),
  ], { stdio: 'ignore' });
}

/** What lokid printed, with a listener and the app's address, and lokid itself on the same port. */
function configuration({ directory, front, port, appPort, printed }) {
  const listen = `listen 127.0.0.1:${front} ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem;`;
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${directory}/${name};`);
  return `
daemon off; master_process off; pid ${directory}/pid; error_log stderr warn;
events {}
http {
  access_log off; ${paths.join(' ')}
  server {
    ${listen} server_name login.${DOMAIN};
    location / {
      proxy_pass http://127.0.0.1:${port};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }
  }
${printed.replaceAll(/(server_name app\.[^;]*;)/g, `${listen} $1`).replaceAll('APP_ADDRESS', `127.0.0.1:${appPort}`)}
}
`;
}

/** What the app saw of the request that the page shows. */
export async function seen({ page }) {
  return JSON.parse(await page.locator('pre').innerText());
}
