// With offline_access a session re-reads its claims: what the provider takes away is gone here too.

import assert from 'node:assert/strict';
import { until } from '../support/deadline.mjs';
import { isSignedIn, me, signIn } from '../support/pages.mjs';
import { story } from '../support/story.mjs';

const oidc = { scopes: ['openid', 'email', 'profile', 'offline_access'], refresh_interval: '2s' };
const refreshes = ({ provider }) => provider.tokenRequests.filter(({ grant }) => grant === 'refresh_token');

const roleBecomes = (person, role) => until(
  async () => (await me(person)).role === role, { what: `the role is ${role}` },
);

story('a role taken away at the provider is gone here, and comes back with the group', { oidc }, async (house) => {
  const person = await house.person();
  await signIn(person, 'operator');
  assert.equal((await me(person)).role, 'operator');
  house.provider.accounts.named('operator').groups = [];
  await roleBecomes(person, 'viewer');
  house.provider.accounts.named('operator').groups = ['operators'];
  await roleBecomes(person, 'operator');
});

story('a grant withdrawn at the provider ends the session, and signing in again works', { oidc }, async (house) => {
  const person = await house.person();
  await signIn(person, 'operator');
  const other = await house.person();
  await signIn(other, 'viewer');
  house.provider.withdrawGrantsOf('operator');
  await until(async () => !await isSignedIn(person), { what: 'the session has ended' });
  assert.equal(await isSignedIn(other), true);
  await person.context.clearCookies();
  await signIn(person, 'operator');
  assert.equal(await isSignedIn(person), true);
});

story('a provider that fails to refresh ends no session, and is asked again later', { oidc }, async (house) => {
  const person = await house.person();
  await signIn(person, 'operator');
  house.provider.breakDown('/token');
  const before = house.provider.count('/token');
  await until(async () => {
    assert.equal((await me(person))?.role, 'operator');
    return house.provider.count('/token') > before;
  }, { what: 'a refresh has failed' });
  assert.equal(await isSignedIn(person), true);
  house.provider.mend('/token');
  house.provider.accounts.named('operator').groups = ['admins'];
  await roleBecomes(person, 'admin');
});

story('requests at the same moment cause one refresh, not one each', { oidc }, async (house) => {
  const person = await house.person();
  await signIn(person, 'operator');
  const requests = () => Promise.all(Array.from({ length: 10 }, () => me(person)));
  for (let round = 1; round <= 2; round += 1) {
    const before = refreshes(house).length;
    await until(async () => {
      assert.ok((await requests()).every((each) => each.role === 'operator'));
      return refreshes(house).length > before;
    }, { what: `refresh ${round} has happened` });
  }
  assert.ok(refreshes(house).every(({ status }) => status === 200), 'no refresh token was used twice');
});
