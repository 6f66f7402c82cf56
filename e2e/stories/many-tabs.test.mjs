// Twenty tabs at once: each keeps its own unfinished sign-in.

import assert from 'node:assert/strict';
import { arrive, cookiesOf, identify, isSignedIn } from '../support/pages.mjs';
import { story } from '../support/story.mjs';

const TABS = 20;
const COOKIE_BUDGET = 8192;

story('twenty tabs begin to sign in at once and every one can finish', async (house) => {
  const person = await house.person();
  const tabs = [person.page];
  while (tabs.length < TABS) tabs.push(await person.context.newPage());

  await Promise.all(tabs.map((tab) => tab.goto(`${house.url}/auth/oidc/login?return_to=/account`)));
  for (const tab of tabs) await tab.getByLabel('Username').waitFor();
  const cookies = await cookiesOf(person);
  const size = cookies.reduce((sum, { name, value }) => sum + name.length + value.length + 3, 0);
  assert.ok(size < COOKIE_BUDGET, `${cookies.length} cookies weigh ${size} bytes`);

  for (const tab of tabs.slice().reverse()) {
    await tab.bringToFront(); // a hidden tab paints seldom, which makes every click wait
    await identify({ page: tab }, 'operator');
    await arrive({ ...person, page: tab }, '/account');
  }
  assert.equal(await isSignedIn(person), true);
  assert.equal(house.provider.tokenRequests.filter(({ status }) => status === 200).length, TABS);
});
