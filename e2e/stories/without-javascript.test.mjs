// Every page does its work with JavaScript switched off, also on a narrow screen.

import assert from 'node:assert/strict';
import { until } from '../support/deadline.mjs';
import { NARROW, WIDE } from '../support/browser.mjs';
import { auditPage, isSignedIn, mint, revoke, signIn, signOut } from '../support/pages.mjs';
import { curl } from '../support/shell.mjs';
import { story } from '../support/story.mjs';

for (const viewport of [WIDE, NARROW]) {
  story(`the whole job is done without JavaScript at ${viewport.width} px`, async (house) => {
    const person = await house.person({ javaScript: false, viewport });
    await signIn(person, 'admin');
    const secret = await mint(person, { name: 'no-script', scopes: ['read'] });
    assert.equal((await curl(`${house.url}/api/status`, { token: secret })).status, 200);
    await revoke(person, 'no-script');
    assert.equal((await curl(`${house.url}/api/status`, { token: secret })).status, 401);
    for (const event of ['auth.token.create', 'auth.token.revoke']) {
      await until(async () => (await auditPage(person, { event })).some((row) => row.includes(event)), { what: `${event} is shown` });
    }
    await signOut(person);
    assert.equal(await isSignedIn(person), false);
  });
}
