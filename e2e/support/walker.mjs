// A browser reduced to cookies and redirects, for checking the provider without lokid.

import { createHash, randomBytes } from 'node:crypto';

const base64url = (bytes) => Buffer.from(bytes).toString('base64url');

export class Walker {
  #cookies = new Map(); // name → { value, path }; one host is enough here

  async go(url, options = {}) {
    const { pathname } = new URL(url);
    const cookie = [...this.#cookies]
      .filter(([, { path }]) => pathname.startsWith(path))
      .map(([name, { value }]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, { redirect: 'manual', ...options, headers: { cookie, ...options.headers } });
    for (const line of response.headers.getSetCookie()) this.#remember(line);
    return response;
  }

  /** Follows redirects until an address begins with `stop` or there is no further redirect. */
  async follow(url, stop) {
    for (;;) {
      if (url.startsWith(stop)) return { url };
      const response = await this.go(url);
      const location = response.headers.get('location');
      if (!location) return { url, response, body: await response.text() };
      url = new URL(location, url).href;
    }
  }

  async submit(url, fields) {
    const response = await this.go(url, { method: 'POST', body: new URLSearchParams(fields) });
    return { response, location: response.headers.get('location') };
  }

  #remember(line) {
    const [pair, ...attributes] = line.split('; ');
    const [name, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
    const path = attributes.find((each) => /^path=/i.test(each))?.slice(5) ?? '/';
    if (value) this.#cookies.set(name, { value, path });
    else this.#cookies.delete(name);
  }
}

/** Begins a code flow with PKCE; returns where to send the browser and what the token request needs. */
export function beginCodeFlow(provider, { clientId, redirectUri, scope = 'openid profile email', ...more }) {
  const verifier = base64url(randomBytes(32));
  const query = new URLSearchParams({
    client_id: clientId, redirect_uri: redirectUri, response_type: 'code', scope,
    state: base64url(randomBytes(8)), nonce: base64url(randomBytes(8)),
    code_challenge: base64url(createHash('sha256').update(verifier).digest()),
    code_challenge_method: 'S256', ...more,
  });
  return { url: `${provider.issuer}/auth?${query}`, verifier };
}

/** Signs `username` in (unless the walker's session at the provider is alive) and returns the callback's address. */
export async function walkToCallback(walker, url, { username, callback }) {
  let place = await walker.follow(url, callback);
  if (place.body?.includes('name="username"')) {
    const { location } = await walker.submit(place.url, { act: 'login', username });
    place = await walker.follow(new URL(location, place.url).href, callback);
  }
  if (!place.response) return new URL(place.url);
  throw new Error(`the provider stopped at ${place.url}: ${place.body}`);
}

export function claimsIn(jwt) {
  return JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'));
}

export function headerOf(jwt) {
  return JSON.parse(Buffer.from(jwt.split('.')[0], 'base64url'));
}
