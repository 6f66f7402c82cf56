// A story runs once for each database, in a house of its own.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { endBrowser } from './browser.mjs';
import { openHouse } from './house.mjs';
import { endPostgres, postgresPrograms } from './postgres.mjs';

const databases = [
  { name: 'sqlite', skip: false },
  { name: 'postgres', skip: postgresPrograms() ? false : 'PostgreSQL is not installed' },
];

const PATIENCE_MS = 120_000;
/** For a tour of every page: what is looked at there does not depend on the database. */
export const TOUR = { on: ['sqlite'], patience: 360_000 };

after(async () => {
  await endBrowser();
  await endPostgres();
});

/**
 * Tells a story: `body(house, t)`. `options` are those of `openHouse`, `skip` with a reason, `on` the databases that count,
 * and `patience` in milliseconds.
 */
export function story(title, options, body) {
  if (typeof options === 'function') return story(title, {}, options);
  const { skip: skipped = false, on, patience = PATIENCE_MS, ...house } = options;
  for (const { name, skip } of databases.filter((database) => !on || on.includes(database.name))) {
    test(`${title} · ${name}`, { skip: skip || skipped, timeout: patience }, (t) => tell(body, { ...house, database: name }, t));
  }
}

async function tell(body, options, t) {
  const house = await openHouse(options);
  let code;
  try {
    await body(house, t);
    house.checkManners();
  } catch (error) {
    t.diagnostic(await house.describe(t.name));
    throw error;
  } finally {
    code = await house.close();
  }
  assert.equal(code, 0, 'lokid ends with 0 on SIGTERM');
}
