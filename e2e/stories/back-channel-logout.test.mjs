// OpenID Connect Back-Channel Logout 1.0: what ends at the provider ends here.

import assert from 'node:assert/strict';
import { isSignedIn, leaveButton, signIn } from '../support/pages.mjs';
import { story } from '../support/story.mjs';

const post = (house, fields) => fetch(`${house.url}/auth/oidc/backchannel-logout`, {
  method: 'POST', body: new URLSearchParams(fields),
});

async function twoBrowsersOf(house, username) {
  const people = [await house.person(), await house.person()];
  for (const person of people) await signIn(person, username);
  return people;
}

story('leaving at the provider ends that one session and no other', async (house) => {
  const [first, second] = await twoBrowsersOf(house, 'operator');
  await first.page.goto(`${house.provider.issuer}/session/end`);
  await leaveButton(first).click();
  await first.page.getByRole('heading', { name: 'You have left' }).waitFor();
  assert.deepEqual(house.provider.logoutTokensSent.map(({ status }) => status), [200]);
  assert.equal(await isSignedIn(first), false);
  assert.equal(await isSignedIn(second), true);
});

story('a logout of the person at the provider ends every browser of theirs and nobody else', async (house) => {
  const [first, second] = await twoBrowsersOf(house, 'operator');
  const other = await house.person();
  await signIn(other, 'viewer');
  await house.provider.announceLogoutOf('operator', house.clientId);
  assert.equal(await isSignedIn(first), false);
  assert.equal(await isSignedIn(second), false);
  assert.equal(await isSignedIn(other), true);
  await second.context.clearCookies();
  await signIn(second, 'operator');
  assert.equal(await isSignedIn(second), true);
});

story('a logout token counts once, unaltered, and only if it is one', async (house) => {
  const person = await house.person();
  await signIn(person, 'operator');
  await house.provider.announceLogoutOf('operator', house.clientId);
  const [{ token }] = house.provider.logoutTokensSent;
  assert.equal(await isSignedIn(person), false);

  await person.context.clearCookies();
  await signIn(person, 'operator');
  const bad = { replayed: token, altered: `${token.slice(0, -8)}AAAAAAAA`, garbage: 'not.a.token', empty: '' };
  for (const [kind, logout_token] of Object.entries(bad)) {
    const answer = await post(house, { logout_token });
    assert.equal(answer.status, 400, kind);
    assert.match(answer.headers.get('cache-control'), /no-store/, kind);
    assert.equal(await isSignedIn(person), true, kind);
  }
  await house.provider.announceLogoutOf('operator', house.clientId);
  assert.equal(await isSignedIn(person), false);
});
