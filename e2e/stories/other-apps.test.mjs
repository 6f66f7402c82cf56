// Another app under the same parent domain, behind nginx as lokid configures it.

import assert from 'node:assert/strict';
import { neighbours, nginxIsMissing, seen } from '../support/neighbours.mjs';
import { continueButton, go, heading, identify, signIn, signOut } from '../support/pages.mjs';
import { story } from '../support/story.mjs';

const rules = [{ path: '/admin', roles: ['admin'] }, { path: '/', scope: 'read' }];
const around = { surround: neighbours(rules), skip: nginxIsMissing };
const atHome = { ignoreHTTPSErrors: true };

const visit = (person, path) => person.page.goto(person.house.around.app + path);

story('a person is sent to sign in, comes back to the page they wanted, and the app knows them', around, async (house) => {
  const person = await house.person(atHome);
  await visit(person, '/reports/7?month=11');
  await continueButton(person).click();
  await identify(person, 'operator');
  await heading(person, 'App').waitFor();
  assert.equal(person.page.url(), `${house.around.app}/reports/7?month=11`);
  const { url, headers } = await seen(person);
  assert.equal(url, '/reports/7?month=11');
  assert.match(headers['x-auth-request-user'], /^usr-/);
  assert.equal(headers['x-auth-request-groups'], 'operators');
  assert.equal(headers['x-loki-jwt-assertion'].split('.').length, 3);
  assert.doesNotMatch(headers.cookie ?? '', /loki_/, 'the app sees no cookie of lokid');
  const cookies = await person.context.cookies();
  const door = cookies.find(({ name }) => name === '__Secure-loki_door');
  assert.deepEqual([door.domain, door.httpOnly, door.secure, door.sameSite], ['.team.example', true, true, 'Lax']);
  assert.ok(cookies.find(({ name }) => name === '__Host-loki_session').domain === 'login.team.example');
});

story('the cookie of other apps opens nothing of lokid itself', around, async (house) => {
  const person = await house.person(atHome);
  await signIn(person, 'admin');
  await visit(person, '/');
  const door = (await person.context.cookies()).find(({ name }) => name === '__Secure-loki_door');
  const stranger = await house.person(atHome);
  await stranger.context.addCookies([door]);
  await visit(stranger, '/');
  await heading(stranger, 'App').waitFor();
  await go(stranger, '/account');
  await heading(stranger, 'Sign in').waitFor();
  await stranger.context.addCookies([{ ...door, name: '__Host-loki_session', domain: undefined, path: undefined, url: house.url }]);
  await go(stranger, '/account');
  await heading(stranger, 'Sign in').waitFor();
});

story('who may not go there is refused, and who signed out is asked again', around, async (house) => {
  const person = await house.person(atHome);
  await signIn(person, 'operator');
  assert.equal((await visit(person, '/')).status(), 200);
  assert.equal((await visit(person, '/admin')).status(), 403);
  assert.equal((await visit(person, '/public/logo')).status(), 200);
  await go(person, '/');
  await signOut(person);
  await visit(person, '/');
  await continueButton(person).waitFor();
  assert.equal(new URL(person.page.url()).origin, house.url);
});
