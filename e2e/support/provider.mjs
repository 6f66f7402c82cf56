// A real, certified identity provider (`oidc-provider`) on loopback, with switches for the stories:
// people and clients that change at run time, keys that rotate, endpoints that fail, a port that goes down.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { Provider } from 'oidc-provider';
import { Accounts } from './provider/accounts.mjs';
import { allOf, forgetGrant } from './provider/adapter.mjs';
import { heldCallback } from './provider/forms.mjs';
import { answerInteraction } from './provider/interaction.mjs';
import { freshKeys, publicPart } from './provider/keys.mjs';
import { settingsFor } from './provider/settings.mjs';

let firstKeys; // made once per process: RSA keys are slow to make

export async function startProvider() {
  firstKeys ??= freshKeys();
  const desk = new IdentityProvider(await firstKeys);
  await desk.start();
  return desk;
}

export class IdentityProvider {
  accounts = new Accounts();
  storage = new Map();
  loginFormsShown = 0;
  /** Requests of the token endpoint: how the client proved itself and what it asked for. */
  tokenRequests = [];
  /** Logout tokens sent to clients: `{ url, token, status }`. */
  logoutTokensSent = [];
  groupsOnlyInUserinfo = false;
  /** When set, the browser is not sent to the callback but shown a page with the link to it. */
  holdCallbacks = false;
  /** When set, changes the token endpoint's answer: `(body) => body`. */
  alterTokens = undefined;
  #counts = new Map();
  #broken = new Map();
  #published; // keys shown instead of the true ones, if any
  #handle;
  #server;
  #port = 0;

  constructor(signingKeys) {
    this.signingKeys = signingKeys;
  }

  async start() {
    this.#server = createServer((request, response) => this.#answer(request, response));
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = this.#server.address().port;
    if (!this.provider) this.#setUp();
  }

  /** Goes away: connections are cut and new ones refused until `start`. Memory is kept. */
  async stop() {
    if (!this.#server?.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  get issuer() {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** How often an endpoint was asked, by path: `/token`, `/jwks`, `/.well-known/openid-configuration`. */
  count(path) {
    return this.#counts.get(path) ?? 0;
  }

  /** Adds a client or replaces the one with the same `client_id`. */
  register(client) {
    this.storage.set(`Client:${client.client_id}`, client);
  }

  change(clientId, changes) {
    this.register({ ...this.storage.get(`Client:${clientId}`), ...changes });
  }

  /** Makes a path answer with `status` until `mend`. */
  breakDown(path, status = 503) {
    this.#broken.set(path, status);
  }

  mend(path) {
    this.#broken.delete(path);
  }

  /** Signs with new keys from now on. The old ones are forgotten unless `keepOld`; unpublished ones stay secret. */
  async rotateKeys({ keepOld = false, publish = true } = {}) {
    const before = this.signingKeys;
    this.signingKeys = [...await freshKeys(), ...(keepOld ? before : [])];
    this.#published = publish ? undefined : before.map(publicPart);
    this.#setUp();
    return before;
  }

  useKeys(signingKeys) {
    this.signingKeys = signingKeys;
    this.#published = undefined;
    this.#setUp();
  }

  /** Withdraws every grant of a person: the next refresh answers `invalid_grant`. */
  withdrawGrantsOf(username) {
    const { sub } = this.accounts.named(username);
    const grants = [...allOf(this.storage, 'Grant')].filter(({ accountId }) => accountId === sub);
    for (const { jti } of grants) forgetGrant(this.storage, jti);
  }

  /** Tells a client that all sessions of a person have ended (a logout token with `sub`, without `sid`). */
  async announceLogoutOf(username, clientId) {
    this.change(clientId, { backchannel_logout_session_required: false });
    const client = await this.provider.Client.find(clientId);
    await client.backchannelLogout(this.accounts.named(username).sub);
    this.change(clientId, { backchannel_logout_session_required: true });
  }

  async sendOut(url, { dispatcher, ...options }) {
    // The dispatcher refuses loopback addresses, which is where every client of these stories lives.
    if (new URL(url).hostname !== 'localhost') throw new Error(`a story asked the provider to reach ${url}`);
    const sent = { url, token: options.body?.get?.('logout_token') };
    if (sent.token) this.logoutTokensSent.push(sent);
    const response = await fetch(url, options);
    sent.status = response.status;
    return response;
  }

  #setUp() {
    const provider = new Provider(this.issuer, settingsFor(this));
    provider.use((ctx, next) => this.#asTheStoryWants(ctx, next));
    this.provider = provider;
    this.#handle = provider.callback();
  }

  #answer(request, response) {
    const { pathname } = new URL(request.url, this.issuer);
    this.#counts.set(pathname, this.count(pathname) + 1);
    const broken = this.#broken.get(pathname);
    if (broken) {
      response.writeHead(broken).end();
    } else if (pathname.startsWith('/interaction/')) {
      answerInteraction(this, request, response).catch((error) => {
        if (!response.headersSent) response.writeHead(400, { 'content-type': 'text/plain' });
        response.end(`${error.name}: ${error.message}`);
      });
    } else {
      this.#handle(request, response);
    }
  }

  async #asTheStoryWants(ctx, next) {
    await next();
    if (ctx.path === '/token') {
      this.tokenRequests.push({
        scheme: ctx.get('authorization').split(' ')[0],
        parameters: Object.keys(ctx.oidc?.body ?? {}),
        grant: ctx.oidc?.body?.grant_type,
        status: ctx.status,
      });
      if (this.alterTokens && ctx.status === 200) ctx.body = this.alterTokens(ctx.body);
    }
    if (ctx.path === '/jwks' && this.#published) ctx.body = { keys: this.#published };
    const location = ctx.response.get('location');
    if (this.holdCallbacks && location?.includes('/auth/oidc/callback')) {
      ctx.remove('location');
      ctx.status = 200;
      ctx.type = 'html';
      ctx.body = heldCallback(location);
    }
  }
}
