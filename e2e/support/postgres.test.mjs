// The PostgreSQL of the stories by itself.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, test } from 'node:test';
import { endPostgres, newDatabase, postgresPrograms, sql } from './postgres.mjs';

const skip = postgresPrograms() ? false : 'PostgreSQL is not installed';

after(endPostgres);

test('each database is new and knows nothing of the others', { skip }, async () => {
  const [first, second] = [new URL(await newDatabase()), new URL(await newDatabase())];
  assert.notEqual(first.pathname, second.pathname);
  await sql(first.port, first.pathname.slice(1), 'CREATE TABLE mark (n integer)');
  const tables = (place) => sql(place.port, place.pathname.slice(1), "SELECT count(*) FROM pg_tables WHERE tablename = 'mark'");
  assert.equal(await tables(first), '1');
  assert.equal(await tables(second), '0');
});

test('it leaves nothing behind when ended and can be started again', { skip }, async () => {
  const { port } = new URL(await newDatabase());
  const directory = await sql(port, 'postgres', 'SHOW data_directory');
  assert.ok(existsSync(directory));
  await endPostgres();
  assert.ok(!existsSync(directory));
  assert.ok(await newDatabase());
});
