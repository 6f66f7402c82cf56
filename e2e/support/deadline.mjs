// Waiting: on a condition, with a deadline. Nothing in these stories waits for a length of time.

import { setTimeout as pause } from 'node:timers/promises';

const BETWEEN_LOOKS_MS = 50;

/** Looks until `condition` gives something truthy and returns it. A throw counts as "not yet". */
export async function until(condition, { what, within = 15_000 } = {}) {
  const end = Date.now() + within;
  let last;
  for (;;) {
    try {
      const seen = await condition();
      if (seen) return seen;
      last = undefined;
    } catch (error) {
      if (error.final) throw error;
      last = error;
    }
    if (Date.now() > end) {
      const why = last ? `; the last look ended in: ${last.message}` : '';
      throw new Error(`gave up after ${within} ms waiting until ${what ?? condition}${why}`);
    }
    await pause(BETWEEN_LOOKS_MS);
  }
}

/** An error that `until` does not wait out. */
export function final(message) {
  return Object.assign(new Error(message), { final: true });
}
