// The main job, whole: a person, a token, a call, a refusal, the evidence, and the way out.

import assert from 'node:assert/strict';
import { until } from '../support/deadline.mjs';
import {
  arrive, auditEvents, auditPage, continueButton, cookiesOf, go, heading, identify, isSignedIn, leaveButton, mint,
  replaceCookies, revoke, signIn, signOutHere, tokenRow, words,
} from '../support/pages.mjs';
import { curl } from '../support/shell.mjs';
import { story } from '../support/story.mjs';

const OLIVE = /Olive Operator|operator@example\.test|sub-of-operator/;

story('a person mints a token, automation uses it until it is revoked, and the audit log names both', async (house) => {
  const operator = await house.person();
  await signIn(operator, 'operator');
  const secret = await mint(operator, { name: 'ci-bot', scopes: ['read', 'write'] });
  assert.match(secret, /^loki_[\w-]{43}_[0-9A-Za-z]{6}$/);

  const who = await curl(`${house.url}/api/me`, { token: secret });
  assert.equal(who.status, 200);
  assert.equal((await curl(`${house.url}/api/status`, { token: secret })).status, 200);

  await go(operator, '/tokens');
  assert.ok(!(await operator.page.content()).includes(secret), 'the secret is shown once');
  await tokenRow(operator, 'ci-bot').waitFor();
  await revoke(operator, 'ci-bot');

  const refused = await curl(`${house.url}/api/me`, { token: secret });
  assert.equal(refused.status, 401);
  assert.match(refused.headers.get('www-authenticate'), /^Bearer realm="loki".*error="invalid_token"/);
  assert.match(refused.headers.get('content-type'), /^application\/problem\+json/);

  const auditor = await house.person();
  await signIn(auditor, 'auditor');
  const evidence = [
    ['auth.oidc.success', OLIVE], ['auth.token.create', OLIVE], ['auth.token.use', /ci-bot|tok-/],
    ['auth.token.revoke', OLIVE], ['auth.fail', /./],
  ];
  for (const [event, actor] of evidence) {
    const found = await until(async () => {
      const events = await auditEvents(auditor, { event });
      return events.some((each) => actor.test(JSON.stringify(each.actor))) && events;
    }, { what: `${event} by ${actor} is in the log` });
    assert.ok(found.every((each) => each.event === event));
    const rows = await auditPage(auditor, { event });
    assert.ok(rows.some((row) => row.includes(event) && actor.test(row)), `${event} by ${actor} is on the page: ${rows}`);
    assert.ok(!JSON.stringify(found).includes(secret));
  }
});

story('signing out ends the session here and at the provider', async (house) => {
  const person = await house.person();
  await signIn(person, 'viewer');
  const { loginFormsShown } = house.provider;

  await go(person, '/auth/oidc/login');
  await arrive(person);
  assert.equal(house.provider.loginFormsShown, loginFormsShown, 'the provider still knew the person');

  const cookies = await cookiesOf(person);
  await signOutHere(person);
  assert.equal(await isSignedIn(person), false);
  await replaceCookies(person, cookies);
  assert.equal(await isSignedIn(person), false, 'a kept cookie is worth nothing');
  assert.deepEqual(house.provider.logoutTokensSent, [], 'and that before the provider has said a word');

  await leaveButton(person).click();
  await heading(person, words.headings['/login']).waitFor();

  await go(person, '/login');
  await continueButton(person).click();
  await identify(person, 'viewer');
  await arrive(person);
  assert.equal(house.provider.loginFormsShown, loginFormsShown + 1, 'the provider asked who it is');
  assert.equal(await isSignedIn(person), true);
});

story('a page asked for before sign-in is where sign-in ends', async (house) => {
  const person = await house.person();
  await go(person, '/audit?event=auth.oidc.success');
  await continueButton(person).click();
  await identify(person, 'auditor');
  await arrive(person, '/audit');
  assert.equal(new URL(person.page.url()).searchParams.get('event'), 'auth.oidc.success');
  assert.doesNotMatch(person.page.url(), /code=|state=/);
});

story('pressing Cancel at the provider leaves nobody signed in, and trying again works', async (house) => {
  const person = await house.person();
  await go(person, '/login');
  await continueButton(person).click();
  await person.page.getByRole('button', { name: 'Cancel' }).click();
  await person.page.waitForURL((url) => url.origin === house.url);
  assert.equal(await isSignedIn(person), false);
  await signIn(person, 'viewer');
  assert.equal(await isSignedIn(person), true);
});
