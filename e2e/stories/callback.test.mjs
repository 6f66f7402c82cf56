// The way back from the provider, attacked. Each refusal has its twin: the same, mended, is accepted.

import assert from 'node:assert/strict';
import { arrive, cookiesOf, isSignedIn, replaceCookies, signInUpToCallback } from '../support/pages.mjs';
import { story } from '../support/story.mjs';

/** Goes to a callback address that must be refused. */
async function isRefused(person, address, because) {
  const response = await person.page.goto(address);
  assert.equal(new URL(person.page.url()).origin, person.url, because);
  assert.equal(await isSignedIn(person), false, because);
  return response.status();
}

async function isAccepted(person, address) {
  await person.page.goto(address);
  await arrive(person);
  assert.doesNotMatch(person.page.url(), /[?&](code|state|iss)=/);
  assert.equal(await isSignedIn(person), true);
}

story('a callback is good for one use, even with every cookie it came with', async (house) => {
  house.provider.holdCallbacks = true;
  const person = await house.person();
  const address = await signInUpToCallback(person, 'operator');
  const cookies = await cookiesOf(person);
  await isAccepted(person, address);

  const asked = house.provider.count('/token');
  await replaceCookies(person, cookies);
  await isRefused(person, address, 'replayed');
  assert.equal(house.provider.count('/token'), asked, 'the replayed code is not even sent to the provider');

  await isAccepted(person, await signInUpToCallback(person, 'operator'));
});

story('a callback opened in another browser is refused there and accepted in its own', async (house) => {
  house.provider.holdCallbacks = true;
  const [victim, attacker] = [await house.person(), await house.person()];
  const address = await signInUpToCallback(attacker, 'viewer');
  await isRefused(victim, address, 'no sign-in was begun in this browser');
  await signInUpToCallback(victim, 'operator');
  await isRefused(victim, address, 'another sign-in was begun in this browser');
  await isAccepted(attacker, address);
});

const changed = (change) => (address) => {
  const url = new URL(address);
  change(url.searchParams);
  return url.href;
};
const alterations = {
  'no state': changed((query) => query.delete('state')),
  'another state': changed((query) => query.set('state', 'A'.repeat(43))),
  'two states': changed((query) => query.append('state', query.get('state'))),
  'no code': changed((query) => query.delete('code')),
  'another code': changed((query) => query.set('code', 'A'.repeat(43))),
  'two codes': changed((query) => query.append('code', query.get('code'))),
  'no issuer': changed((query) => query.delete('iss')),
  'another issuer': changed((query) => query.set('iss', 'https://evil.example')),
  'an error beside the code': changed((query) => query.set('error', 'access_denied')),
};

story('an altered callback is refused, an unaltered one accepted', async (house) => {
  house.provider.holdCallbacks = true;
  const person = await house.person();
  for (const [because, alter] of Object.entries(alterations)) {
    const status = await isRefused(person, alter(await signInUpToCallback(person, 'operator')), because);
    assert.ok(status >= 400 && status < 500, `${because}: answered ${status}`);
  }
  await isAccepted(person, await signInUpToCallback(person, 'operator'));
});

const flipLast = (jwt) => jwt.slice(0, -6) + (jwt.endsWith('AAAAAA') ? 'BBBBBB' : 'AAAAAA');
const tokenAlterations = {
  'a broken signature': (body) => ({ ...body, id_token: flipLast(body.id_token) }),
  'no ID token': ({ id_token, ...body }) => body,
  'another token type': (body) => ({ ...body, token_type: 'mac' }),
  'an unsigned ID token': (body) => {
    const header = Buffer.from('{"alg":"none"}').toString('base64url');
    return { ...body, id_token: `${header}.${body.id_token.split('.')[1]}.` };
  },
};

story('an altered token answer is refused, an unaltered one accepted', async (house) => {
  house.provider.holdCallbacks = true;
  const person = await house.person();
  for (const [because, alter] of Object.entries(tokenAlterations)) {
    house.provider.alterTokens = alter;
    await isRefused(person, await signInUpToCallback(person, 'operator'), because);
  }
  house.provider.alterTokens = undefined;
  await isAccepted(person, await signInUpToCallback(person, 'operator'));
});
