// The provider's keys: every algorithm, and keys that change while lokid runs.

import assert from 'node:assert/strict';
import { isSignedIn, signIn, signInUpToCallback } from '../support/pages.mjs';
import { story } from '../support/story.mjs';

const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'ES256', 'ES384', 'EdDSA'];

story('ID tokens of every supported algorithm are accepted', async (house) => {
  for (const alg of algorithms) {
    house.provider.change(house.clientId, { id_token_signed_response_alg: alg });
    const person = await house.person();
    await signIn(person, 'viewer');
    assert.equal(await isSignedIn(person), true, alg);
  }
});

story('after the provider has rotated its keys people still sign in', async (house) => {
  const before = await house.person();
  await signIn(before, 'operator');
  const fetched = house.provider.count('/jwks');
  await house.provider.rotateKeys();
  const after = await house.person();
  await signIn(after, 'operator');
  assert.equal(await isSignedIn(after), true);
  assert.equal(await isSignedIn(before), true, 'sessions outlive the keys they began with');
  const again = house.provider.count('/jwks') - fetched;
  assert.ok(again >= 1 && again <= 2, `the keys were fetched ${again} times more`);
});

story('a key the provider does not publish is not believed, a published one is', async (house) => {
  const person = await house.person();
  await signIn(person, 'operator');
  house.provider.holdCallbacks = true;
  await person.context.clearCookies();
  const published = await house.provider.rotateKeys({ publish: false });
  await person.page.goto(await signInUpToCallback(person, 'operator'));
  assert.equal(await isSignedIn(person), false);
  house.provider.useKeys(published);
  await person.page.goto(await signInUpToCallback(person, 'operator'));
  assert.equal(await isSignedIn(person), true);
});
