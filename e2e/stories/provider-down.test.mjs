// The provider is away: people are told so, automation does not notice.

import assert from 'node:assert/strict';
import { until } from '../support/deadline.mjs';
import { continueButton, forgetLokid, go, isSignedIn, mint, signIn, words } from '../support/pages.mjs';
import { curl } from '../support/shell.mjs';
import { story } from '../support/story.mjs';

async function isToldThatTheProviderIsAway(person) {
  await forgetLokid(person);
  await go(person, '/login');
  const told = person.page.getByText(words.providerDown).first();
  if (!await told.isVisible()) await continueButton(person).click();
  await told.waitFor();
  assert.equal(new URL(person.page.url()).origin, person.url);
  assert.equal(await isSignedIn(person), false);
}

async function canSignInAgain(person) {
  await person.context.clearCookies();
  await until(async () => {
    await signIn(person, 'operator');
    return isSignedIn(person);
  }, { what: 'people can sign in again', within: 60_000 });
}

story('the provider goes away and comes back while lokid runs', async (house) => {
  const person = await house.person();
  await signIn(person, 'operator');
  const secret = await mint(person, { name: 'steady', scopes: ['read'] });
  await house.provider.stop();
  assert.equal(await isSignedIn(person), true, 'a session that began earlier goes on');
  assert.equal((await curl(`${house.url}/api/status`, { token: secret })).status, 200);
  await isToldThatTheProviderIsAway(person);
  await house.provider.start();
  await canSignInAgain(person);
});

story('lokid starts while the provider is away', async (house) => {
  const person = await house.person();
  await signIn(person, 'operator');
  const secret = await mint(person, { name: 'steady', scopes: ['read'] });
  await house.provider.stop();
  await house.lokid.restart();
  assert.equal((await curl(`${house.url}/api/status`, { token: secret })).status, 200);
  assert.equal((await curl(`${house.url}/api/status`, { token: `${secret.slice(0, -1)}~` })).status, 401);
  await isToldThatTheProviderIsAway(person);
  await house.provider.start();
  await canSignInAgain(person);
});

story('a very first start without the provider waits for it', { providerUp: false }, async (house) => {
  const person = await house.person();
  await isToldThatTheProviderIsAway(person);
  await house.provider.start();
  await canSignInAgain(person);
});
