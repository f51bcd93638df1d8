/** How much of a stored value is read: it may hold anything, and the page is to stay free. */

/** The longest text, but for the cell's, and how much of all texts and of all lists in fields of one name is read. */
const LONGEST = 1000;
const CHARACTERS = 50_000;
const ITEMS = 2400;
/** Variants, and samples of all of them together. */
const VARIANTS = 60;
const SAMPLES = 1200;
const CELL = 4000;
/** Parts of one object: those of a report are few, and its options and versions not many. */
const PARTS = 200;
/** Values of any kind, and how deep they lie: a report has no more than ten levels. */
const VALUES = 60_000;
const DEPTH = 16;
/** Lists whose items are spread over what they show. */
const SPREAD = ['samples', 'seconds', 'in_use', 'held'];

export interface Limited {
  /** A copy that shares nothing with the value. */
  readonly value: unknown;
  /** What is left out, as `940 of 1000 variants`; empty where all of it is there. */
  readonly left: readonly string[];
}

/** Return as much of a value as is read of it. What is left out is counted, not walked through. */
export function limited(whole: object): Limited {
  const variants = 'variants' in whole && Array.isArray(whole.variants) ? whole.variants.length : 0;
  const share = Math.ceil(SAMPLES / Math.max(Math.min(variants, VARIANTS), 1));
  const counts = new Map<string, { all: number; kept: number }>();
  let values = 0;
  /** Return how many of so many are kept, and count them. */
  const kept = (what: string, all: number, most: number, room: number): number => {
    const before = counts.get(what) ?? { all: 0, kept: 0 };
    const now = Math.max(0, Math.min(all, most, room - before.kept));
    counts.set(what, { all: before.all + all, kept: before.kept + now });
    return now;
  };
  const walk = (value: unknown, key: string, depth: number): unknown => {
    values++;
    if (typeof value === 'string') {
      const length = kept(`characters of ${key}`, value.length, key === 'cell' ? CELL : LONGEST, CHARACTERS);
      return length < value.length ? `${value.slice(0, length)}…` : value;
    }
    if (typeof value !== 'object' || value === null) {
      return value;
    }
    const room = depth < DEPTH ? VALUES - values : 0;
    if (Array.isArray(value)) {
      const most = key === 'variants' ? VARIANTS : SPREAD.includes(key) ? share : ITEMS;
      const length = kept(key, value.length, Math.min(most, room), ITEMS);
      const step = SPREAD.includes(key) ? value.length / Math.max(length, 1) : 1;
      return Array.from({ length }, (_, i) => walk(value[Math.floor(i * step)], key, depth + 1));
    }
    const names = Object.keys(value);
    const length = kept(`parts of ${key}`, names.length, Math.min(PARTS, room), Infinity);
    const parts = names
      .slice(0, length)
      .map(name => [name, walk((value as Record<string, unknown>)[name], name, depth + 1)]);
    return Object.fromEntries(parts) as unknown;
  };
  const value = walk(whole, 'report', 0);
  const cut = [...counts].filter(([, count]) => count.kept < count.all);
  return { value, left: cut.map(([what, count]) => `${count.all - count.kept} of ${count.all} ${what}`) };
}
