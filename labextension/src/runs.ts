/** The runs of one notebook: those stored in its outputs, and the last ones that this browser has seen. */

import type { Report } from './read';

/** How many runs of a notebook are kept beside those that its outputs hold. */
export const MOST_KEPT = 20;

export interface Run {
  readonly report: Report;
  /** Its kernel ended, or its last message was lost. */
  readonly unfinished: boolean;
  /** Whether an output of the notebook holds it. */
  readonly stored: boolean;
}

/** Return all runs, newest first; one that is both stored and kept comes once, as it was last seen. */
export function merged(stored: readonly Run[], kept: readonly Report[]): Run[] {
  const all = new Map<string, Run>();
  for (const report of kept) {
    all.set(report.run_id, { report, unfinished: report.state === 'running', stored: false });
  }
  for (const run of stored) {
    all.set(run.report.run_id, run);
  }
  const when = (run: Run): number => Date.parse(run.report.started) || 0;
  const number = (run: Run): number => run.report.execution_count ?? 0;
  // Of runs that began at one moment, the later in the notebook is the newer.
  return [...all.values()].reverse().sort((a, b) => when(b) - when(a) || number(b) - number(a));
}

/** Return the kept runs with `report` among them, the latest last. */
export function keep(kept: readonly Report[], report: Report): Report[] {
  return [...kept.filter(other => other.run_id !== report.run_id), report].slice(-MOST_KEPT);
}

/** Return the chosen runs that still exist, at most two and the earlier one first; without one, the newest. */
export function chosen(runs: readonly Run[], ids: readonly string[]): Run[] {
  const wanted = ids.slice(0, 2);
  const found = runs.filter(run => wanted.includes(run.report.run_id)).reverse();
  return found.length > 0 ? found : runs.slice(0, 1);
}
