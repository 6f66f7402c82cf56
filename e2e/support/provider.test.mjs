// The provider by itself: what the stories rely on must hold before lokid is judged by it.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { startProvider } from './provider.mjs';
import { beginCodeFlow, claimsIn, headerOf, Walker, walkToCallback } from './walker.mjs';

const URL_OF_CLIENT = 'http://localhost:9';
const CALLBACK = `${URL_OF_CLIENT}/auth/oidc/callback`;
const clientId = 'app';
const app = {
  client_id: clientId, client_secret: 'a secret', token_endpoint_auth_method: 'client_secret_basic',
  redirect_uris: [CALLBACK], post_logout_redirect_uris: [`${URL_OF_CLIENT}/login?signed_out=1`],
  grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
};

async function withProvider(t, changes = {}) {
  const provider = await startProvider();
  t.after(() => provider.stop());
  provider.register({ ...app, ...changes });
  return provider;
}

async function tokens(provider, fields) {
  const response = await fetch(`${provider.issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('app:a%20secret')}` },
    body: new URLSearchParams(fields),
  });
  return { status: response.status, ...await response.json() };
}

async function signIn(provider, { walker = new Walker(), username = 'operator', ...more } = {}) {
  const flow = beginCodeFlow(provider, { clientId, redirectUri: CALLBACK, ...more });
  const callback = await walkToCallback(walker, flow.url, { username, callback: CALLBACK });
  const code = callback.searchParams.get('code');
  const answer = await tokens(provider, {
    grant_type: 'authorization_code', code, redirect_uri: CALLBACK, code_verifier: flow.verifier,
  });
  return { callback, walker, ...answer };
}

test('a person signs in by name and the ID token states their groups', async (t) => {
  const provider = await withProvider(t);
  const answer = await signIn(provider);
  assert.equal(answer.callback.searchParams.get('iss'), provider.issuer);
  const claims = claimsIn(answer.id_token);
  assert.equal(claims.sub, 'sub-of-operator');
  assert.deepEqual(claims.groups, ['operators']);
  assert.equal(claims.email_verified, true);
  assert.equal(provider.count('/token'), 1);
  assert.deepEqual(provider.tokenRequests.map(({ scheme, status }) => ({ scheme, status })), [{ scheme: 'Basic', status: 200 }]);
});

test('a request without PKCE is refused, the same with PKCE is accepted', async (t) => {
  const provider = await withProvider(t);
  const bare = new URL(beginCodeFlow(provider, { clientId, redirectUri: CALLBACK }).url);
  bare.searchParams.delete('code_challenge');
  bare.searchParams.delete('code_challenge_method');
  const refused = await new Walker().follow(bare.href, CALLBACK);
  assert.match(refused.url, /error=invalid_request/);
  assert.equal((await signIn(provider)).status, 200);
});

test('a changed group shows in the refreshed ID token, a withdrawn grant in invalid_grant', async (t) => {
  const provider = await withProvider(t);
  const first = await signIn(provider, { scope: 'openid profile offline_access', prompt: 'consent' });
  provider.accounts.named('operator').groups = [];
  const second = await tokens(provider, { grant_type: 'refresh_token', refresh_token: first.refresh_token });
  assert.deepEqual(claimsIn(second.id_token).groups, []);
  provider.withdrawGrantsOf('operator');
  const third = await tokens(provider, { grant_type: 'refresh_token', refresh_token: second.refresh_token });
  assert.equal(third.error, 'invalid_grant');
});

test('without prompt=consent the provider leaves offline_access out, as the specification allows', async (t) => {
  const provider = await withProvider(t);
  const answer = await signIn(provider, { scope: 'openid offline_access' });
  assert.equal(answer.refresh_token, undefined);
});

test('the session at the provider makes the next sign-in silent until the person leaves', async (t) => {
  const provider = await withProvider(t);
  const { walker, id_token } = await signIn(provider);
  await signIn(provider, { walker });
  assert.equal(provider.loginFormsShown, 1);

  const leave = `${provider.issuer}/session/end?${new URLSearchParams({
    id_token_hint: id_token, post_logout_redirect_uri: app.post_logout_redirect_uris[0],
  })}`;
  const { body } = await walker.follow(leave, URL_OF_CLIENT);
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(body)[1];
  const { location } = await walker.submit(`${provider.issuer}/session/end/confirm`, { xsrf, logout: 'yes' });
  assert.equal(location, app.post_logout_redirect_uris[0]);

  await signIn(provider, { walker });
  assert.equal(provider.loginFormsShown, 2);
});

test('rotated keys sign and are published; unpublished ones only sign', async (t) => {
  const provider = await withProvider(t);
  const kids = async () => (await (await fetch(`${provider.issuer}/jwks`)).json()).keys.map(({ kid }) => kid);
  const before = await kids();
  await provider.rotateKeys();
  const after = await kids();
  assert.ok(!after.some((kid) => before.includes(kid)));
  assert.ok(after.includes(headerOf((await signIn(provider)).id_token).kid));
  const earlier = await provider.rotateKeys({ publish: false });
  assert.deepEqual(await kids(), after);
  assert.ok(!after.includes(headerOf((await signIn(provider)).id_token).kid));
  provider.useKeys(earlier);
  assert.ok(after.includes(headerOf((await signIn(provider)).id_token).kid));
});

test('every signing algorithm can be asked for', async (t) => {
  const provider = await withProvider(t);
  for (const alg of ['RS256', 'RS384', 'RS512', 'PS256', 'ES256', 'ES384', 'EdDSA']) {
    provider.change(clientId, { id_token_signed_response_alg: alg });
    assert.equal(headerOf((await signIn(provider)).id_token).alg, alg);
  }
});

test('it goes down and comes back at the same address with its memory', async (t) => {
  const provider = await withProvider(t);
  const { walker } = await signIn(provider);
  await provider.stop();
  await assert.rejects(fetch(`${provider.issuer}/jwks`));
  await provider.start();
  await signIn(provider, { walker });
  assert.equal(provider.loginFormsShown, 1);
  provider.breakDown('/jwks');
  assert.equal((await fetch(`${provider.issuer}/jwks`)).status, 503);
  provider.mend('/jwks');
  assert.equal((await fetch(`${provider.issuer}/jwks`)).status, 200);
});

test('a held callback is shown as a link', async (t) => {
  const provider = await withProvider(t);
  provider.holdCallbacks = true;
  const walker = new Walker();
  const flow = beginCodeFlow(provider, { clientId, redirectUri: CALLBACK });
  const form = await walker.follow(flow.url, CALLBACK);
  const { location } = await walker.submit(form.url, { act: 'login', username: 'viewer' });
  const { body } = await walker.follow(new URL(location, form.url).href, CALLBACK);
  assert.match(body, /id="held-callback" href="http:\/\/localhost:9\/auth/);
});

test('logout is announced with a signed token that names the person', async (t) => {
  const heard = [];
  const server = createServer(async (request, response) => {
    heard.push(new URLSearchParams(await text(request)).get('logout_token'));
    response.writeHead(200).end();
  });
  server.listen(0, 'localhost');
  await once(server, 'listening');
  t.after(() => server.close());
  const provider = await withProvider(t, {
    backchannel_logout_uri: `http://localhost:${server.address().port}/back`, backchannel_logout_session_required: true,
  });
  const answer = await signIn(provider);
  assert.ok(claimsIn(answer.id_token).sid);
  await provider.announceLogoutOf('operator', clientId);
  assert.equal(claimsIn(heard[0]).sub, 'sub-of-operator');
  assert.equal(claimsIn(heard[0]).sid, undefined);
  assert.deepEqual(provider.logoutTokensSent.map(({ status }) => status), [200]);
});
