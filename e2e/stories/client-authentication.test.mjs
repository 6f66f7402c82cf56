// How lokid proves itself to the provider: each method works, and a wrong proof does not.

import assert from 'node:assert/strict';
import { CLIENT_SECRET, waysToProveAClient } from '../support/clients.mjs';
import { auditEvents, continueButton, go, identify, isSignedIn, signIn } from '../support/pages.mjs';
import { clientKey } from '../support/provider/keys.mjs';
import { story } from '../support/story.mjs';

const shows = {
  client_secret_basic: ({ scheme, parameters }) => scheme === 'Basic' && !parameters.includes('client_secret'),
  client_secret_post: ({ scheme, parameters }) => scheme === '' && parameters.includes('client_secret'),
  private_key_jwt: ({ scheme, parameters }) => scheme === '' && parameters.includes('client_assertion'),
  none: ({ scheme, parameters }) => scheme === '' && !parameters.includes('client_secret')
    && !parameters.includes('client_assertion') && parameters.includes('code_verifier'),
};

for (const way of waysToProveAClient) {
  story(`a person signs in when the client proves itself by ${way}`, { way }, async (house) => {
    const person = await house.person();
    await signIn(person, 'viewer');
    assert.equal(await isSignedIn(person), true);
    const [request] = house.provider.tokenRequests;
    assert.ok(shows[way.split(' ')[0]](request), JSON.stringify(request));
  });
}

async function isRefusedUntilMended(house, mend) {
  const person = await house.person();
  await go(person, '/login');
  await continueButton(person).click();
  await identify(person, 'auditor');
  await person.page.waitForURL((url) => url.origin === house.url);
  assert.equal(await isSignedIn(person), false);
  assert.equal(house.provider.tokenRequests.at(-1).status, 401);

  mend();
  await person.context.clearCookies();
  await signIn(person, 'auditor');
  assert.equal(await isSignedIn(person), true);
  const failures = await auditEvents(person, { event: 'auth.oidc.fail' });
  assert.equal(failures.length, 1);
}

story('a secret the provider does not know is refused until it is right', async (house) => {
  house.provider.change(house.clientId, { client_secret: 'another secret' });
  await isRefusedUntilMended(house, () => house.provider.change(house.clientId, { client_secret: CLIENT_SECRET }));
});

story('a key the provider does not know is refused until it is right', { way: 'private_key_jwt with P-256' }, async (house) => {
  const { jwks } = house.provider.storage.get(`Client:${house.clientId}`);
  house.provider.change(house.clientId, { jwks: { keys: [(await clientKey('P-256')).publicJwk] } });
  await isRefusedUntilMended(house, () => house.provider.change(house.clientId, { jwks }));
});
