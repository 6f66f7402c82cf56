// Every page: nothing for axe to complain about in light and dark, nothing sticking out at 390 px.

import assert from 'node:assert/strict';
import { violationsOn } from '../support/axe.mjs';
import { NARROW, WIDE } from '../support/browser.mjs';
import { furnish, lookWhileProviderIsAway, tour } from '../support/gallery.mjs';
import { sticksOut } from '../support/layout.mjs';
import { arrive, continueButton, go } from '../support/pages.mjs';
import { story, TOUR } from '../support/story.mjs';

/** Looks at a page wide, then narrow: what axe finds, and what sticks out of the narrow one. */
async function faultsOf({ page }, name) {
  const faults = [];
  for (const viewport of [WIDE, NARROW]) {
    await page.setViewportSize(viewport);
    const found = [...await violationsOn(page), ...(viewport === NARROW ? await sticksOut(page) : [])];
    faults.push(...found.map((each) => `${name} at ${viewport.width} px: ${each}`));
  }
  await page.setViewportSize(WIDE);
  return faults;
}

for (const colorScheme of ['light', 'dark']) {
  story(`axe finds nothing on any page in ${colorScheme}, and no page is wider than 390 px`, TOUR, async (house) => {
    const faults = [];
    const look = async (person, name) => { faults.push(...await faultsOf(person, name)); };
    await furnish(house);
    await tour(house, { colorScheme }, look);
    await lookWhileProviderIsAway(house, { colorScheme }, look);
    assert.deepEqual(faults, []);
  });
}

story('no page is wider than 390 px without JavaScript, and each has its own title', TOUR, async (house) => {
  const faults = [];
  const titles = new Map();
  await furnish(house);
  await tour(house, { viewport: NARROW, javaScript: false }, async ({ page }, name) => {
    titles.set(name, await page.title());
    faults.push(...(await sticksOut(page)).map((each) => `${name}: ${each}`));
  });
  assert.deepEqual(faults, []);
  const own = ['login', 'overview', 'tokens', 'audit', 'people', 'account', 'not-found', 'forbidden'];
  assert.equal(new Set(own.map((name) => titles.get(name))).size, own.length, [...titles].join('; '));
  assert.ok([...titles.values()].every(Boolean));
});

story('light and dark are not the same colours', async (house) => {
  const backgrounds = new Set();
  for (const colorScheme of ['light', 'dark']) {
    const person = await house.person({ colorScheme });
    await go(person, '/login');
    backgrounds.add(await person.page.evaluate(() => getComputedStyle(document.body).backgroundColor));
  }
  assert.equal(backgrounds.size, 2, [...backgrounds].join());
});

story('a person with a keyboard alone signs in and creates a token', async (house) => {
  const person = await house.person();
  const { keyboard } = person.page;
  const tabTo = async (locator) => {
    for (let presses = 0; presses < 60; presses += 1) {
      if (await locator.evaluate((element) => element === document.activeElement)) return;
      await keyboard.press('Tab');
    }
    throw new Error(`${locator} is out of reach of the Tab key`);
  };
  await go(person, '/login');
  await tabTo(continueButton(person));
  await keyboard.press('Enter');
  await tabTo(person.page.getByLabel('Username'));
  await keyboard.type('operator');
  await keyboard.press('Enter');
  await arrive(person);
  await go(person, '/tokens');
  await tabTo(person.page.getByLabel('Name', { exact: true }));
  await keyboard.type('by-keyboard');
  const read = person.page.getByRole('group', { name: 'Scopes' }).getByRole('checkbox', { name: /^read/ });
  await tabTo(read);
  if (!await read.isChecked()) await keyboard.press('Space');
  await tabTo(person.page.getByRole('button', { name: 'Create token' }));
  await keyboard.press('Enter');
  await person.page.locator('#new-token-secret').waitFor();
});
