// Pictures of every page at 1280 and 390 px, light and dark, in out/. Run with `npm run screenshots`.

import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { endBrowser, NARROW, WIDE } from './support/browser.mjs';
import { furnish, lookWhileProviderIsAway, tour } from './support/gallery.mjs';
import { openHouse } from './support/house.mjs';

const OUT = fileURLToPath(new URL('./out/', import.meta.url));

await mkdir(OUT, { recursive: true });
const house = await openHouse();
let taken = 0;
try {
  await furnish(house);
  for (const viewport of [WIDE, NARROW]) {
    for (const colorScheme of ['light', 'dark']) {
      const take = async ({ page }, name) => {
        await page.screenshot({ path: `${OUT}${name}-${viewport.width}-${colorScheme}.png`, fullPage: true });
        taken += 1;
      };
      await tour(house, { viewport, colorScheme }, take);
      await lookWhileProviderIsAway(house, { viewport, colorScheme }, take);
    }
  }
  console.log(`${taken} pictures in ${OUT}`);
} finally {
  await house.close();
  await endBrowser();
}
