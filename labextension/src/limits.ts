/** How much of a report is shown: a stored one may hold anything, and the page is to stay free. */

import { isLines, type Told } from './read';

/** The longest text, but for the cell's, and how much of all texts and of all lists in fields of one name is shown. */
const LONGEST = 1000;
const CHARACTERS = 50_000;
const ITEMS = 2400;
/** Variants, and samples of all of them together. */
const VARIANTS = 60;
const SAMPLES = 1200;
const CELL = 4000;
/** Lists whose items are spread over what they show. */
const SPREAD = ['samples', 'seconds', 'in_use', 'held'];

export interface Limited<T extends Told> {
  readonly report: T;
  /** What is left out, as `940 of 1000 variants`; empty where all of it is shown. */
  readonly left: readonly string[];
}

const known = new WeakMap<Told, Limited<Told>>();

/** Return a report as it is shown. */
export function limited<T extends Told>(report: T): Limited<T> {
  const found = (known.get(report) as Limited<T> | undefined) ?? limit(report);
  known.set(report, found);
  return found;
}

function limit<T extends Told>(report: T): Limited<T> {
  const variants = isLines(report) ? 0 : report.variants.length;
  const share = Math.ceil(SAMPLES / Math.max(Math.min(variants, VARIANTS), 1));
  const counts = new Map<string, { all: number; kept: number }>();
  /** Return how many of so many are kept, and count them. */
  const kept = (what: string, all: number, most: number, room: number): number => {
    const before = counts.get(what) ?? { all: 0, kept: 0 };
    const now = Math.max(0, Math.min(all, most, room - before.kept));
    counts.set(what, { all: before.all + all, kept: before.kept + now });
    return now;
  };
  const walk = (value: unknown, key: string): unknown => {
    if (typeof value === 'string') {
      const length = kept(`characters of ${key}`, value.length, key === 'cell' ? CELL : LONGEST, CHARACTERS);
      return length < value.length ? `${value.slice(0, length)}…` : value;
    }
    if (Array.isArray(value)) {
      const most = key === 'variants' ? VARIANTS : SPREAD.includes(key) ? share : ITEMS;
      const length = kept(key, value.length, most, ITEMS);
      const step = SPREAD.includes(key) ? value.length / Math.max(length, 1) : 1;
      return Array.from({ length }, (_, i) => walk(value[Math.floor(i * step)], key));
    }
    if (typeof value === 'object' && value !== null) {
      const entries = Object.entries(value);
      const length = kept(`parts of ${key}`, entries.length, ITEMS, Infinity);
      return Object.fromEntries(entries.slice(0, length).map(([name, item]) => [name, walk(item, name)]));
    }
    return value;
  };
  const shown = walk(report, 'report') as T;
  const cut = [...counts].filter(([, count]) => count.kept < count.all);
  return { report: shown, left: cut.map(([what, count]) => `${count.all - count.kept} of ${count.all} ${what}`) };
}
