// `return_to` leads only to our own pages, however it is spelled.

import assert from 'node:assert/strict';
import { arrive, forgetLokid, go, identify, isSignedIn } from '../support/pages.mjs';
import { story } from '../support/story.mjs';

const spellings = [
  'https://evil.example/', '//evil.example/', '///evil.example/', '/\\evil.example/', '\\\\evil.example/',
  '/\t/evil.example/', '/\n/evil.example/', ' //evil.example/', '\t//evil.example/', 'https:evil.example',
  'http:\\\\evil.example/', '/.//evil.example/', '/..//evil.example/', '/%2f%2fevil.example/', '%2f%2fevil.example/',
  '/%5cevil.example/', '/%09/evil.example/', 'javascript:alert(document.domain)', 'data:text/html,hello',
  '@evil.example/', 'evil.example',
];

story('no spelling of return_to leaves our own origin, and a plain path works', async (house) => {
  const { host } = new URL(house.url);
  const ours = [host, new URL(house.provider.issuer).host];
  const person = await house.person();
  const tried = [...spellings, `http://${host}@evil.example/`, `//${host}.evil.example/`];
  for (const spelling of tried) {
    await forgetLokid(person);
    await person.page.goto(`${house.url}/auth/oidc/login?return_to=${encodeURIComponent(spelling)}`);
    const form = person.page.getByLabel('Username');
    if (await form.isVisible()) await identify(person, 'auditor');
    await person.page.waitForURL((url) => url.origin === house.url);
    assert.deepEqual([...person.hosts].filter((each) => !ours.includes(each)), [], spelling);
  }

  await forgetLokid(person);
  await go(person, `/auth/oidc/login?return_to=${encodeURIComponent('/audit?event=auth.oidc.success')}`);
  await arrive(person, '/audit');
  assert.equal(new URL(person.page.url()).searchParams.get('event'), 'auth.oidc.success');
  assert.equal(await isSignedIn(person), true);
});
