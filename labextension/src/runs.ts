/** The runs of one notebook: those stored in its outputs, and the last ones that this browser has seen. */

import type { Report, Told } from './read';

/** How many runs of a notebook are kept beside those that its outputs hold. */
export const MOST_KEPT = 20;

export interface Run {
  readonly report: Told;
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

/** Return the kept runs with `report` among them, the latest last: so many, and those that are pinned. */
export function keep(kept: readonly Report[], report: Report, pins: readonly string[] = []): Report[] {
  const all = [...kept.filter(other => other.run_id !== report.run_id), report];
  const free = all.filter(one => !pins.includes(one.run_id)).slice(-MOST_KEPT);
  return all.filter(one => pins.includes(one.run_id) || free.includes(one));
}

/** Return the runs in which all words of `wanted` are found, as `told` tells them; those that are pinned come first. */
export function listed(
  runs: readonly Run[],
  pins: readonly string[],
  wanted: string,
  told: (run: Run) => string
): Run[] {
  const words = wanted.toLowerCase().split(/\s+/);
  const found = runs.filter(run => words.every(word => told(run).toLowerCase().includes(word)));
  const pinned = (run: Run): boolean => pins.includes(run.report.run_id);
  return [...found.filter(pinned), ...found.filter(run => !pinned(run))];
}

/** Return the run of the active cell, undefined if it has none or one that is shown; `cell` tells whose a run is. */
export function unshown(
  runs: readonly Run[],
  shown: readonly Run[],
  cell: (run: Run) => number | undefined,
  active: number
): Run | undefined {
  return shown.some(run => cell(run) === active) ? undefined : runs.find(run => cell(run) === active);
}

/** Say whether what is shown gives way to the run of the cell that is selected: not two, nor one that is pinned. */
export function makesWay(shown: readonly Run[], pins: readonly string[]): boolean {
  return shown.length < 2 && !shown.some(run => pins.includes(run.report.run_id));
}

/** Return the chosen runs that still exist, at most two and the earlier one first; without one, the newest. */
export function chosen(runs: readonly Run[], ids: readonly string[]): Run[] {
  const wanted = ids.slice(0, 2);
  const found = runs.filter(run => wanted.includes(run.report.run_id)).reverse();
  return found.length > 0 ? found : runs.slice(0, 1);
}
