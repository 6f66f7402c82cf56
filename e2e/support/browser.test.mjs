// The browser, axe and the measuring of pages by themselves, on pages made here.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { violationsOn } from './axe.mjs';
import { endBrowser, NARROW, newPerson } from './browser.mjs';
import { sticksOut } from './layout.mjs';

const POLICY = "default-src 'none'; style-src 'self'";
const page = (body) => `<!doctype html><html lang="en"><head><title>A page</title></head><body><main>${body}</main></body></html>`;
const pages = {
  '/good': page('<h1>Good</h1><label>Name <input></label>'),
  '/unlabelled': page('<h1>Bad</h1><input>'),
  '/wide': page('<h1>Wide</h1><p>' + 'x'.repeat(300) + '</p>'),
  '/inline': page('<h1>Inline</h1><script>document.title = "ran"</script>'),
};
let server;
let url;

before(async () => {
  server = createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'text/html', 'content-security-policy': POLICY });
    response.end(pages[request.url] ?? page('<h1>Nothing</h1>'));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${server.address().port}`;
});

after(async () => {
  await endBrowser();
  server.close();
  server.closeAllConnections();
});

test('axe finds an unlabelled field under a strict policy, and nothing once it is labelled', async () => {
  const { context, page: tab } = await newPerson();
  await tab.goto(`${url}/unlabelled`);
  assert.match((await violationsOn(tab)).join(), /label/);
  await tab.goto(`${url}/good`);
  assert.deepEqual(await violationsOn(tab), []);
  await context.close();
});

test('a page is measured with JavaScript switched off', async () => {
  const { context, page: tab } = await newPerson({ javaScript: false, viewport: NARROW });
  await tab.goto(`${url}/wide`);
  assert.notDeepEqual(await sticksOut(tab), []);
  await tab.goto(`${url}/good`);
  assert.deepEqual(await sticksOut(tab), []);
  await context.close();
});

test('a script that the policy forbids is complained about, a clean page is not', async () => {
  const person = await newPerson();
  await person.page.goto(`${url}/good`);
  assert.deepEqual(person.complaints, []);
  await person.page.goto(`${url}/inline`);
  assert.match(person.complaints.join(), /Content Security Policy/);
  assert.equal(await person.page.title(), 'A page');
  await person.context.close();
});

test('two people share no cookies and see their own colours', async () => {
  const light = await newPerson({ colorScheme: 'light' });
  const dark = await newPerson({ colorScheme: 'dark' });
  await light.context.addCookies([{ name: 'a', value: 'b', url }]);
  assert.deepEqual(await dark.context.cookies(), []);
  const prefersDark = () => matchMedia('(prefers-color-scheme: dark)').matches;
  assert.equal(await light.page.evaluate(prefersDark), false);
  assert.equal(await dark.page.evaluate(prefersDark), true);
  await light.context.close();
  await dark.context.close();
});
