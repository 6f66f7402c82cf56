// A run from the click that starts it to the auditor who reads of it.

import assert from 'node:assert/strict';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from '../support/deadline.mjs';
import { go, mint, signIn, startRun as start } from '../support/pages.mjs';
import { curl } from '../support/shell.mjs';
import { story } from '../support/story.mjs';

// Says one line, then waits for the next word of the story, as long as the story lasts.
const script = `
echo "begun from $(cat "$1")"
n=0
while [ -e "$1" ]; do
  if [ -e say ]; then n=$((n + 1)); echo "word $n: $(cat say)"; rm say; fi
  sleep 0.05
done
`;

const state = ({ page }) => page.locator('#run .badge').first();
const button = ({ page }, name) => page.getByRole('button', { name, exact: true });
const lines = ({ page }) => page.locator('#log .line:not([hidden]) .text');
const says = async (person, text) => lines(person).filter({ hasText: text }).waitFor();
const is = async (person, word) => state(person).filter({ hasText: word }).waitFor();

/** Written aside: the runner must not find the file before the word is in it. */
const tell = async (house, word) => {
  const place = join(house.workspace, 'say');
  await writeFile(`${place}.new`, word);
  await rename(`${place}.new`, place);
};

story('an operator starts a run, watches lines arrive, pauses, resumes and stops it; the log tells of each act', { script }, async (house) => {
  const operator = await house.person();
  await signIn(operator, 'operator');
  const id = await start(operator, '- paint the door');
  await says(operator, 'begun from - paint the door');
  const viewer = await house.person();
  await signIn(viewer, 'viewer');
  await go(viewer, `/runs/${id}`);
  await is(viewer, 'running');

  await tell(house, 'hello');
  await says(operator, 'word 1: hello');
  await says(viewer, 'word 1: hello');
  await button(operator, 'Pause').first().click();
  await is(operator, 'paused');
  await is(viewer, 'paused');
  await tell(house, 'nobody hears this yet');
  await button(operator, 'Resume').click();
  await is(operator, 'running');
  await says(operator, 'word 2: nobody hears this yet');

  assert.equal(await viewer.page.locator('#run form').count(), 0, 'a viewer has no buttons');
  const token = await mint(viewer, { name: 'looker', scopes: ['read'] });
  assert.equal((await curl(`${house.url}/api/control/stop`, { token, json: {} })).status, 403);
  assert.equal((await curl(`${house.url}/api/v2/runs/${id}`, { token })).body.status, 'running');

  await button(operator, 'Stop').click();
  await until(async () => (await state(operator).innerText()).includes('stopped'), { what: 'the page shows that it stopped', within: 10_000 });
  await button(operator, 'Run again').waitFor();

  const auditor = await house.person();
  await signIn(auditor, 'auditor');
  for (const event of ['run.start', 'run.pause', 'run.resume', 'run.stop', 'run.complete']) {
    await go(auditor, `/audit?event=${event}`);
    const rows = auditor.page.getByRole('row').filter({ hasText: id });
    assert.equal(await rows.count(), 1, event);
    if (event === 'run.complete') continue;
    const text = await rows.innerText();
    assert.match(text, /operator/i);
    assert.match(text, /127\.0\.0\.1|::1/);
    await rows.getByText('Details').click();
    assert.match(await rows.innerText(), /Request\s+[0-9a-f]{16}/);
  }
});

story('a log is searched and held while it goes on, and an open list follows', { script }, async (house) => {
  const operator = await house.person();
  await signIn(operator, 'operator');
  const list = await house.person();
  await signIn(list, 'viewer');
  await go(list, '/runs');
  const id = await start(operator, '- x');
  await list.page.getByRole('link', { name: id }).waitFor();
  await says(operator, 'begun');
  await operator.page.locator('#log-pause').click();
  await tell(house, 'held');
  await operator.page.locator('#log-found', { hasText: '1 more' }).waitFor();
  assert.equal(await lines(operator).count(), 1);
  await operator.page.locator('#log-pause').click();
  await says(operator, 'word 1: held');
  await operator.page.getByLabel('Find').fill('HELD');
  assert.equal(await lines(operator).count(), 1);
  await operator.page.locator('#log-found', { hasText: '1 found' }).waitFor();
  await operator.page.getByLabel('Find').fill('');
  assert.equal(await lines(operator).count(), 2);
});

story('runs are whole without JavaScript', { script }, async (house) => {
  const operator = await house.person({ javaScript: false });
  await signIn(operator, 'operator');
  const id = await start(operator, '- x');
  await until(async () => {
    await go(operator, `/runs/${id}`);
    return (await operator.page.locator('#log').innerText()).includes('begun from');
  }, { what: 'the log is on the page', within: 10_000 });
  await button(operator, 'Pause').click();
  await is(operator, 'paused');
  await button(operator, 'Stop').click();
  await until(async () => {
    await go(operator, `/runs/${id}`);
    return (await state(operator).innerText()).includes('stopped');
  }, { what: 'it has stopped', within: 10_000 });
  await go(operator, '/');
  await operator.page.getByRole('heading', { name: 'Runs', exact: true }).waitFor();
});

story('cards are dragged, and moved with the keyboard, to where they may go', async (house) => {
  const operator = await house.person();
  await signIn(operator, 'operator');
  const token = await mint(operator, { name: 'board', scopes: ['write'] });
  for (const title of ['alpha', 'beta']) await curl(`${house.url}/api/tasks`, { token, json: { title } });
  await go(operator, '/tasks');
  const { page } = operator;
  const column = (name) => page.getByRole('region', { name });
  const cards = (name) => column(name).locator('.task-title').allInnerTexts();
  await page.locator('.task', { hasText: 'beta' }).dragTo(column(/^In progress/));
  await column(/^In progress/).locator('.task', { hasText: 'beta' }).waitFor();
  // Not where it may not go.
  await page.locator('.task', { hasText: 'alpha' }).dragTo(column(/^Done/));
  assert.deepEqual(await cards(/^Pending/), ['alpha']);
  await page.locator('.task', { hasText: 'beta' }).focus();
  await page.keyboard.press('Alt+ArrowRight');
  await column(/^Review/).locator('.task', { hasText: 'beta' }).waitFor();
  await page.keyboard.press('Alt+ArrowRight');
  await column(/^Done/).locator('.task', { hasText: 'beta' }).waitFor();
  const { body } = await curl(`${house.url}/api/tasks?status=done`, { token });
  assert.deepEqual(body.map(({ title }) => title), ['beta']);
  // What a script does is seen without a reload.
  await curl(`${house.url}/api/tasks`, { token, json: { title: 'gamma' } });
  await column(/^Pending/).locator('.task', { hasText: 'gamma' }).waitFor();
});
