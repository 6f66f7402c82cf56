// How a person finds their way on lokid's pages. Every label the stories rely on stands in this file.

import assert from 'node:assert/strict';
import { PROVIDER_NAME } from './house.mjs';

const SCOPES = ['read', 'write', 'control', 'audit', '*'];
const SECRET = '#new-token-secret';

export const words = {
  signIn: 'Sign in',
  signOut: 'Sign out',
  signOutEverywhere: 'Sign out everywhere',
  providerDown: /(cannot|could not|can't|not) be reached|unreachable|unavailable|not answer|not respond/i,
  headings: {
    '/login': 'Sign in', '/tokens': 'Tokens', '/audit': 'Audit log', '/people': 'People', '/account': 'Account',
    '/keys': 'Signing keys', '/tasks': 'Tasks', '/runs': 'Runs',
  },
};

const startsWith = (word) => new RegExp(`^${word.replace(/[*]/g, '\\*')}(\\W|$)`, 'i');

export const heading = ({ page }, name) => page.getByRole('heading', { level: 1, name });
export const continueButton = ({ page }) => {
  const name = `Continue with ${PROVIDER_NAME}`;
  return page.getByRole('link', { name }).or(page.getByRole('button', { name }));
};
export const signOutButton = ({ page }) => page.getByRole('button', { name: words.signOut, exact: true });
export const leaveButton = ({ page }) => page.getByRole('button', { name: 'Yes, log me out' });
export const navigationLink = ({ page }, name) => page.getByRole('navigation').getByRole('link', { name, exact: true });
export const tokenRow = ({ page }, name) => page.getByRole('row').filter({ hasText: name });
export const auditRows = ({ page }) => page.getByRole('row').filter({ has: page.getByRole('cell') });

export const go = (person, path) => person.page.goto(person.url + path);

/** Waits until the page is lokid's, and shows somebody signed in. */
export async function arrive(person, path) {
  await person.page.waitForURL((url) => url.origin === person.url && (!path || url.pathname === path));
  await signOutButton(person).waitFor();
}

/** Fills the provider's form. */
export async function identify({ page }, username) {
  await page.getByLabel('Username').fill(username);
  await page.getByRole('button', { name: 'Log in' }).click();
}

/** From lokid's sign-in page through the provider and back. */
export async function signIn(person, username) {
  await go(person, '/login');
  await continueButton(person).click();
  await identify(person, username);
  await arrive(person);
}

/** Signs in while the provider shows the callback's address instead of going there; returns the address. */
export async function signInUpToCallback(person, username) {
  await go(person, '/auth/oidc/login');
  const held = person.page.locator('#held-callback');
  const form = person.page.getByLabel('Username');
  await held.or(form).waitFor();
  if (await form.isVisible()) await identify(person, username);
  return held.getAttribute('href');
}

/** Signs out here and stops where the provider asks whether to leave there too. */
export async function signOutHere(person) {
  await signOutButton(person).click();
  await leaveButton(person).waitFor();
}

/** Signs out here and, on the provider's question, there. Ends on lokid's sign-in page. */
export async function signOut(person) {
  await signOutHere(person);
  await leaveButton(person).click();
  await person.page.waitForURL((url) => url.origin === person.url && url.pathname === '/login');
}

/** The cookies a browser holds for lokid, whatever their path. */
export async function cookiesOf(person) {
  const { hostname } = new URL(person.url);
  return (await person.context.cookies()).filter(({ domain }) => domain === hostname);
}

/** Puts back exactly the cookies a browser held earlier. */
export async function replaceCookies(person, cookies) {
  await forgetLokid(person);
  await person.context.addCookies(cookies);
}

/** Forgets lokid's cookies and keeps the provider's. */
export const forgetLokid = ({ context, url }) => context.clearCookies({ domain: new URL(url).hostname });

/** Whether the browser holds a live session, told by the API rather than by the page. */
export async function isSignedIn(person) {
  const response = await person.context.request.get(`${person.url}/api/me`);
  assert.ok([200, 401].includes(response.status()), `GET /api/me answered ${response.status()}`);
  return response.status() === 200;
}

export async function me(person) {
  const response = await person.context.request.get(`${person.url}/api/me`);
  return response.ok() ? response.json() : undefined;
}

async function chooseScopes(person, scopes) {
  const group = person.page.getByRole('group', { name: 'Scopes' });
  for (const scope of SCOPES) {
    const box = group.getByRole('checkbox', { name: startsWith(scope) });
    if (scopes.includes(scope) || await box.count()) await box.setChecked(scopes.includes(scope));
  }
}

/** Creates a token on the page and returns its secret. */
export async function mint(person, { name, scopes, days = 30 }) {
  await go(person, '/tokens');
  await person.page.getByLabel('Name', { exact: true }).fill(name);
  await chooseScopes(person, scopes);
  await person.page.getByLabel('Expires in days').fill(String(days));
  await person.page.getByRole('button', { name: 'Create token' }).click();
  const secret = (await person.page.locator(SECRET).textContent()).trim();
  person.house.secrets.add(secret);
  return secret;
}

export async function revoke(person, name) {
  await go(person, '/tokens');
  await tokenRow(person, name).getByRole('button', { name: /^Revoke/ }).click();
  await person.page.waitForLoadState();
  await heading(person, words.headings['/tokens']).waitFor();
}

/** Filters the audit page by event and returns the text of each row. */
export async function auditPage(person, { event }) {
  await go(person, '/audit');
  const field = person.page.getByLabel('Event', { exact: true });
  if (await field.evaluate((element) => element.localName) === 'select') await field.selectOption(event);
  else await field.fill(event);
  await person.page.getByRole('button', { name: 'Filter' }).click();
  await person.page.waitForURL((url) => url.searchParams.get('event') === event);
  return auditRows(person).allTextContents();
}

/** Events from `GET /api/audit`, with the person's own session. */
export async function auditEvents(person, query = {}) {
  const response = await person.context.request.get(`${person.url}/api/audit?${new URLSearchParams(query)}`);
  assert.equal(response.status(), 200, await response.text());
  return (await response.json()).entries;
}

/** Starts a run on the page; its id. */
export async function startRun(person, text) {
  const { page } = person;
  await go(person, '/runs');
  const fold = page.locator('details', { hasText: 'Start a run' });
  if (!await fold.evaluate((element) => element.open)) await page.getByText('Start a run').click();
  await page.getByLabel('What is to be done').fill(text);
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await page.waitForURL(/\/runs\/run-/);
  return new URL(page.url()).pathname.split('/').at(-1);
}
