// The board: cards are added and moved by people who may write, and only seen by the others.

import assert from 'node:assert/strict';
import { go, mint, signIn } from '../support/pages.mjs';
import { curl } from '../support/shell.mjs';
import { story } from '../support/story.mjs';

const column = ({ page }, name) => page.getByRole('region', { name });
const cards = (person, name) => column(person, name).locator('.task-title').allInnerTexts();
const move = async (person, title, to) => {
  await person.page.getByRole('button', { name: `Move ${title} ${to}`, exact: true }).click();
  await person.page.waitForLoadState();
};

async function add({ page }, title, priority = 'medium') {
  await page.getByText('Add a task').click();
  await page.getByLabel('Title').fill(title);
  await page.getByLabel('Priority').selectOption(priority);
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  await page.locator('.task-title', { hasText: title }).waitFor();
}

story('an operator adds cards and moves them, a script sees the same, and the log tells of each act', async (house) => {
  const operator = await house.person();
  await signIn(operator, 'operator');
  await go(operator, '/tasks');
  await add(operator, 'Paint the door', 'critical');
  await add(operator, 'Oil the hinges');
  assert.deepEqual(await cards(operator, /^Pending/), ['Paint the door', 'Oil the hinges']);
  await move(operator, 'Oil the hinges', 'up');
  assert.deepEqual(await cards(operator, /^Pending/), ['Oil the hinges', 'Paint the door']);
  await move(operator, 'Paint the door', 'to In progress');
  await move(operator, 'Paint the door', 'to Done');
  assert.deepEqual(await cards(operator, /^Done/), ['Paint the door']);
  const token = await mint(operator, { name: 'board', scopes: ['read'] });
  const { body } = await curl(`${house.url}/api/tasks?status=done`, { token });
  assert.deepEqual(body.map(({ title, priority, position }) => [title, priority, position]), [['Paint the door', 'critical', 0]]);
  const { stdout: log } = await house.lokid.command('--json', 'enterprise', 'audit', 'tail', '--event', 'task.*');
  assert.equal(log.match(/"task\.create"/g).length, 2);
  assert.equal(log.match(/"task\.move"/g).length, 3);
});

story('the board works without JavaScript, and a viewer has no buttons and gets 403', async (house) => {
  const operator = await house.person({ javaScript: false });
  await signIn(operator, 'operator');
  await go(operator, '/tasks');
  await add(operator, 'Paint the door');
  await move(operator, 'Paint the door', 'to In progress');
  const viewer = await house.person();
  await signIn(viewer, 'viewer');
  await go(viewer, '/tasks');
  assert.deepEqual(await cards(viewer, /^In progress/), ['Paint the door']);
  assert.equal(await viewer.page.getByRole('button', { name: /^Move/ }).count(), 0);
  assert.equal(await viewer.page.getByText('Add a task').count(), 0);
  const token = await mint(viewer, { name: 'looker', scopes: ['read'] });
  assert.equal((await curl(`${house.url}/api/tasks`, { token, json: { title: 'x' } })).status, 403);
});
