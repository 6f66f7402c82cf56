// Every page there is, with something on it: for looking at, measuring, and axe.

import { continueButton, go, mint, revoke, signIn } from './pages.mjs';
import { until } from './deadline.mjs';
import { curl } from './shell.mjs';

const WORK = [
  ['Write down what the door must hold', 'done', 'high'], ['Rotate the staging secrets', 'in_progress', 'critical'],
  ['Ask the auditors what they would like to see first', 'pending', 'medium'], ['Retire the old proxy', 'pending', 'low'],
];
/** A job's token of an issuer that the house trusts, with a signature that is nobody's. */
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const FOREIGN_TOKEN = [
  part({ alg: 'RS256', kid: 'a', typ: 'JWT' }),
  part({
    iss: 'https://token.actions.githubusercontent.com', aud: 'https://loki.example.com/', sub: 'repo:acme/app:environment:production',
    repository: 'acme/app', repository_id: '42', repository_owner_id: '7', environment: 'production', event_name: 'push', exp: 1790000000,
  }),
  'AAAA',
].join('.');
const LONG_NAME = 'nightly-build-of-everything-on-every-platform';

/** Fills a house so that lists are not empty: tokens live and revoked, calls accepted and refused. */
export async function furnish(house) {
  const admin = await house.person();
  await signIn(admin, 'admin');
  const kept = await mint(admin, { name: LONG_NAME, scopes: ['read', 'write', 'audit'] });
  const gone = await mint(admin, { name: 'retired', scopes: ['read'], days: 1 });
  await curl(`${house.url}/api/status`, { token: kept });
  await revoke(admin, 'retired');
  await curl(`${house.url}/api/status`, { token: gone });
  await curl(`${house.url}/api/status`, { token: FOREIGN_TOKEN });
  for (const [title, status, priority] of WORK) {
    await curl(`${house.url}/api/tasks`, { token: kept, json: { title, status, priority } });
  }
  const control = await mint(admin, { name: 'runner', scopes: ['control'] });
  for (const json of [{ prd: './prd.md' }, { prd_text: '- one thing\n' }]) {
    await curl(`${house.url}/api/control/start`, { token: control, json });
  }
  await until(async () => (await curl(`${house.url}/api/status`, { token: control })).body.active_sessions === 0, {
    what: 'the runs have ended', within: 10_000,
  });
  await go(admin, '/keys');
  await admin.page.getByRole('button', { name: 'Add the next key' }).click();
  await certify(house, admin, ['shop.example.com', 'a-rather-long-name.of-a-machine.in-the-cellar.example.com']);
  await signIn(await house.person(), 'operator');
}

/** Lets the admin's own page ask for certificates, and revokes the first. */
async function certify(house, admin, domains) {
  await house.lokid.command('certs', 'ca');
  await go(admin, '/certificates');
  await admin.page.evaluate(async (wanted) => {
    const csrf = document.querySelector('input[name=csrf]').value;
    const headers = { 'Content-Type': 'application/json', 'X-CSRF-Token': csrf };
    for (const domain of wanted) await fetch('/api/certificate', { method: 'POST', headers, body: JSON.stringify({ domain }) });
  }, domains);
  await go(admin, '/certificates');
  await admin.page.getByText(`Revoke ${domains[0]}`).click();
  await admin.page.getByRole('row').filter({ hasText: domains[0] }).getByRole('button', { name: 'Revoke now' }).click();
}

/** The audit log, examined. */
async function verified(person) {
  await go(person, '/audit');
  await person.page.getByRole('button', { name: 'Verify the log' }).click();
  await person.page.getByRole('status').waitFor();
}

/** The pages by name: how a person gets there. `as` is who must be signed in, if anybody. */
export const gallery = [
  { name: 'login', visit: (person) => go(person, '/login') },
  { name: 'login-signed-out', visit: (person) => go(person, '/login?signed_out=1') },
  { name: 'callback-refused', visit: (person) => go(person, '/auth/oidc/callback?state=x&code=y') },
  { name: 'not-found', visit: (person) => go(person, '/no/such/page') },
  { name: 'overview', as: 'admin', visit: (person) => go(person, '/') },
  { name: 'tokens', as: 'admin', visit: (person) => go(person, '/tokens') },
  {
    name: 'tokens-new-secret',
    as: 'admin',
    visit: (person) => mint(person, { name: `shown-once-${Date.now()}`, scopes: ['read'] }),
  },
  { name: 'audit', as: 'admin', visit: (person) => go(person, '/audit') },
  { name: 'audit-entry', as: 'admin', visit: (person) => go(person, '/audit/2') },
  { name: 'audit-verified', as: 'admin', visit: verified },
  { name: 'people', as: 'admin', visit: (person) => go(person, '/people') },
  { name: 'review-access', as: 'admin', visit: (person) => go(person, '/review') },
  { name: 'review-tokens', as: 'admin', visit: (person) => go(person, '/review?show=tokens&days=1') },
  { name: 'review-changes', as: 'admin', visit: (person) => go(person, '/review?show=changes') },
  { name: 'review-nobody', as: 'admin', visit: (person) => go(person, '/review?kind=certificate&beyond_owner=1') },
  { name: 'review-wrong', as: 'admin', visit: (person) => go(person, '/review?show=tokens&days=never') },
  { name: 'tasks', as: 'admin', visit: (person) => go(person, '/tasks') },
  { name: 'runs', as: 'admin', visit: (person) => go(person, '/runs') },
  {
    name: 'run',
    as: 'admin',
    visit: async (person) => {
      await go(person, '/runs');
      await person.page.getByRole('rowheader').getByRole('link').first().click();
      await person.page.getByRole('heading', { name: /^Run run-/ }).waitFor();
    },
  },
  { name: 'runs-viewer', as: 'viewer', visit: (person) => go(person, '/runs') },
  { name: 'keys', as: 'admin', visit: (person) => go(person, '/keys') },
  { name: 'certificates', as: 'admin', visit: (person) => go(person, '/certificates') },
  { name: 'explain', as: 'admin', visit: (person) => go(person, '/explain-token') },
  {
    name: 'explain-refused',
    as: 'admin',
    visit: async (person) => {
      await go(person, '/explain-token');
      await person.page.getByLabel('JWT').fill(FOREIGN_TOKEN);
      await person.page.getByRole('button', { name: 'Explain', exact: true }).click();
      await person.page.getByRole('heading', { name: 'It is refused' }).waitFor();
    },
  },
  { name: 'account', as: 'admin', visit: (person) => go(person, '/account') },
  { name: 'overview-viewer', as: 'viewer', visit: (person) => go(person, '/') },
  { name: 'forbidden', as: 'viewer', visit: (person) => go(person, '/people') },
];

/** Visits every page in one way of looking; `look(person, name)` is called on each. */
export async function tour(house, appearance, look) {
  const visitors = new Map();
  const visitorAs = async (username) => {
    if (!visitors.has(username)) {
      const person = await house.person(appearance);
      if (username) await signIn(person, username);
      visitors.set(username, person);
    }
    return visitors.get(username);
  };
  for (const { name, as, visit } of gallery) {
    const person = await visitorAs(as);
    await visit(person);
    await look(person, name);
  }
}

/** The sign-in page when the provider does not answer. */
export async function lookWhileProviderIsAway(house, appearance, look) {
  const person = await house.person(appearance);
  await house.provider.stop();
  await go(person, '/login');
  await look(person, 'login-provider-away');
  const button = continueButton(person);
  if (await button.count()) {
    await button.click();
    await look(person, 'sign-in-provider-away');
  }
  await house.provider.start();
}
