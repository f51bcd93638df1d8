/** Where a cell is after so many of its steps: each of them is one time that a line was traced, or ran. */

import type { TranslationBundle } from '@jupyterlab/translation';

import type { Lines } from './read';

export type Visit = Lines['visits'][number];

/** What was last seen of a line, in each of the two runs. */
export interface Seen {
  readonly traced?: Visit;
  readonly run?: Visit;
}

/** Return what was last seen of each line of each passage after the step at index `last`; keys are made by `place`. */
export function seen(visits: readonly Visit[], last: number): Map<string, Seen> {
  const found = new Map<string, Seen>();
  for (const visit of visits.slice(0, last + 1)) {
    const key = place(visit.passage, visit.line);
    found.set(key, { ...found.get(key), [visit.traced ? 'traced' : 'run']: visit });
  }
  return found;
}

export function place(passage: number, line: number): string {
  return `${passage}:${line}`;
}

/** Return in words which step one is, and which line it is in. */
export function where(lines: Lines, at: number, trans: TranslationBundle): string {
  const { line, time, passage, traced } = lines.visits[at];
  const name = lines.passages.at(passage)?.name ?? '';
  const when = traced ? trans.__('while tracing') : trans.__('without a trace');
  const step = trans.__('Step %1 of %2, %3', at + 1, lines.visits.length, when);
  return name === ''
    ? trans.__('%1: line %2, time %3', step, line, time)
    : trans.__('%1: line %2 of %3, time %4', step, line, name, time);
}
