// What must be undone even when a file of stories is cut short: children ended, directories removed.

import { constants } from 'node:os';

const undone = new Set();

/** Promises that `undo` runs when this process ends. Returns a function that says it was done already. */
export function mustUndo(undo) {
  undone.add(undo);
  return () => undone.delete(undo);
}

process.once('exit', () => {
  for (const undo of [...undone].reverse()) undo();
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.once(signal, () => process.exit(128 + constants.signals[signal]));
}
