// Accessibility as axe-core sees it: WCAG 2.2, levels A and AA.
// Axe needs timers, so it cannot look at a page whose JavaScript is switched off.

import axe from 'axe-core';

const LEVELS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

/** The violations on a page, each as one readable line. */
export async function violationsOn(page) {
  // Evaluated by the debugger, not as a script of the page: the page's content security policy stays on.
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate((values) => globalThis.axe.run(document, {
    runOnly: { type: 'tag', values },
  }), LEVELS);
  if (passes.length === 0) throw new Error(`axe looked at nothing on ${page.url()}`);
  return violations.flatMap(({ id, help, nodes }) => nodes.map(
    ({ target, any }) => `${id} (${help}) at ${target.join(' ')} ${any[0]?.message ?? ''}`.trim(),
  ));
}
