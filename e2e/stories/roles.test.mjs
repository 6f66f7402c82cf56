// Which role a person gets, where they can see why, and what they may not do with it.

import assert from 'node:assert/strict';
import { go, heading, isSignedIn, me, navigationLink, signIn, signOut, words } from '../support/pages.mjs';
import { story } from '../support/story.mjs';

story('groups decide the role, and the account page says which rule it was', async (house) => {
  for (const [username, role, rule] of [
    ['admin', 'admin', /admins/], ['operator', 'operator', /operators/], ['auditor', 'auditor', /auditors/],
    ['viewer', 'viewer', /default/i],
  ]) {
    const person = await house.person();
    await signIn(person, username);
    assert.equal((await me(person)).role, role);
    await go(person, '/account');
    await heading(person, words.headings['/account']).waitFor();
    const text = await person.page.getByRole('main').innerText();
    assert.match(text, new RegExp(role, 'i'));
    assert.match(text, rule);
  }
});

story('groups that only the UserInfo endpoint states count too', async (house) => {
  house.provider.groupsOnlyInUserinfo = true;
  const person = await house.person();
  await signIn(person, 'operator');
  assert.equal((await me(person)).role, 'operator');
});

story('a group whose name merely contains a mapped one gives nothing, the mapped one does', async (house) => {
  const account = house.provider.accounts.add({ username: 'near', groups: ['not admins', 'admins2', 'Admins', 'admins '] });
  const person = await house.person();
  await signIn(person, 'near');
  assert.equal((await me(person)).role, 'viewer');
  account.groups = ['admins'];
  await signOut(person);
  await signIn(person, 'near');
  assert.equal((await me(person)).role, 'admin');
});

story('an e-mail gives a role only once it is verified', {
  rbac: { oidc_role_mapping: { 'boss@example.test': 'admin' } },
}, async (house) => {
  const account = house.provider.accounts.add({ username: 'boss', email_verified: false });
  const person = await house.person();
  await signIn(person, 'boss');
  assert.equal((await me(person)).role, 'viewer');
  account.email_verified = true;
  await signOut(person);
  await signIn(person, 'boss');
  assert.equal((await me(person)).role, 'admin');
});

story('pages for an administrator are refused to a viewer and not offered to them', async (house) => {
  const viewer = await house.person();
  await signIn(viewer, 'viewer');
  for (const [path, name] of [['/people', 'People'], ['/keys', 'Keys'], ['/audit', 'Audit']]) {
    await go(viewer, '/');
    assert.equal(await navigationLink(viewer, name).count(), 0);
    assert.equal((await go(viewer, path)).status(), 403);
    await heading(viewer, /forbidden|not allowed/i).waitFor();
  }
  const admin = await house.person();
  await signIn(admin, 'admin');
  for (const name of ['People', 'Keys', 'Audit', 'Account', 'Tokens']) {
    await go(admin, '/');
    await navigationLink(admin, name).click();
    await heading(admin, words.headings[`/${name.toLowerCase()}`]).waitFor();
  }
});

story('signing out everywhere ends the other browser, and only that person', async (house) => {
  const [here, there, other] = [await house.person(), await house.person(), await house.person()];
  await signIn(here, 'operator');
  await signIn(there, 'operator');
  await signIn(other, 'viewer');
  await go(here, '/account');
  assert.equal(await isSignedIn(there), true);
  await here.page.getByRole('button', { name: words.signOutEverywhere }).click();
  await here.page.waitForURL((url) => url.pathname !== '/account');
  assert.equal(await isSignedIn(there), false);
  assert.equal(await isSignedIn(other), true);
});
