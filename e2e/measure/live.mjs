// How soon a line that a run prints is seen in an open browser. Run with `npm run measure:live`; ends with 1 when the
// median is above the bar or a line is missing.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { endBrowser } from '../support/browser.mjs';
import { until } from '../support/deadline.mjs';
import { openHouse } from '../support/house.mjs';
import { signIn, startRun } from '../support/pages.mjs';
import { endPostgres, postgresPrograms } from '../support/postgres.mjs';

const LINES = 300;
const BAR_MS = 250;

// Says the time, once the page is open and watched.
const script = `
while [ ! -e begin ]; do sleep 0.05; done
n=0
while [ $n -lt ${LINES} ]; do n=$((n + 1)); date +'%s%3N'; sleep 0.1; done
sleep 600
`;

/** Notes when each line is put into the page. Handed in through the browser's protocol: the page knows nothing of it. */
function watch() {
  window.seen = [];
  const look = (records) => {
    const now = Date.now();
    for (const { addedNodes } of records) {
      for (const node of addedNodes) {
        const text = node.querySelector?.('.text')?.textContent ?? '';
        if (/^\d{13}$/.test(text)) window.seen.push([Number(text), now]);
      }
    }
  };
  new MutationObserver(look).observe(document.querySelector('#log'), { childList: true, subtree: true });
}

/** How long each line took, in milliseconds, from the shortest to the longest. */
async function delays(database) {
  const house = await openHouse({ database, script });
  try {
    const operator = await house.person();
    await signIn(operator, 'operator');
    await startRun(operator, '- tell the time');
    const { page } = operator;
    await page.locator('#run .badge').first().filter({ hasText: 'running' }).waitFor();
    await page.evaluate(watch);
    // The page's own stream is open by then.
    await sleep(1000);
    await writeFile(join(house.workspace, 'begin'), '');
    const count = () => page.evaluate(() => window.seen.length);
    await until(async () => await count() >= LINES, { what: `${LINES} lines are seen`, within: 120_000 });
    const seen = await page.evaluate(() => window.seen);
    await page.getByRole('button', { name: 'Stop', exact: true }).click();
    await page.locator('#run .badge').first().filter({ hasText: 'stopped' }).waitFor();
    return seen.map(([printed, shown]) => shown - printed).sort((a, b) => a - b);
  } finally {
    await house.close();
  }
}

const databases = ['sqlite', ...postgresPrograms() ? ['postgres'] : []];
try {
  for (const database of databases) {
    const took = await delays(database);
    const at = (share) => took[Math.min(took.length - 1, Math.floor(took.length * share))];
    const missed = at(0.5) > BAR_MS;
    console.log(`${database}: a printed line is seen after ${at(0.5)} ms (median of ${took.length}), `
      + `p95 ${at(0.95)} ms, at most ${took.at(-1)} ms; bar ${BAR_MS} ms at the median: ${missed ? 'missed' : 'held'}`);
    if (missed) process.exitCode = 1;
  }
} finally {
  await endBrowser();
  await endPostgres();
}
