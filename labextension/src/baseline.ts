/** A report with another of its variants as the baseline: its stored ratios, turned, and their words. */

import { between, ratio } from './format';
import type { Ratio, Report } from './read';

const TURNED: Partial<Record<Ratio['verdict'], Ratio['verdict']>> = { faster: 'slower', slower: 'faster' };
/** What the words of a report say of a ratio that is one of different things. */
export const DIFFER = 'outputs differ';
/** What they say beside a time that contradicts a ratio, if one divides, and from which logarithm on it does. */
const MOVED = ', moved)';
const APART = 0.05;
/** How the table of figures heads its column of times. */
const TIMES = 'time per call';
/** How the table of figures heads its column of ratios. */
const HEAD = 'paired ratio to ';

/** Return the report over the variant of this name: all pairs of a run are stored, each in one direction. */
export function rebased(report: Report, name: string): Report {
  const words = report.words;
  if (name === report.baseline || words === undefined || !report.variants.some(v => v.name === name)) {
    return report;
  }
  const ratios = report.ratios.map(r => (r.variant === name ? turned(r) : r));
  const other = incomparable(report, name);
  const over = new Map(ratios.filter(r => r.over === name).map(r => [r.variant, r]));
  const column = words.figures.head.findIndex(head => head.startsWith(HEAD));
  const { head, rows } = words.figures;
  const times = head.indexOf(TIMES);
  return {
    ...report,
    baseline: name,
    ratios,
    words: {
      ...words,
      figures: {
        head: head.map((one, i) => (i === column ? HEAD + name : one)),
        rows: rows.map((row, i) => {
          const variant = report.variants.at(i)?.name ?? '';
          return row.map((cell, j) =>
            j === column
              ? figure(variant, name, over, other)
              : j === times
                ? time(cell, report, over.get(variant))
                : cell
          );
        })
      },
      charts: {
        ...words.charts,
        ratios: report.variants.map(v => {
          const r = over.get(v.name);
          return r === undefined
            ? []
            : [[name, ratio(r.median), span(r) ?? 'n/a', other.has(v.name) ? DIFFER : r.verdict]];
        })
      }
    }
  };
}

/** Return the variants whose outputs differ, all if the baseline is one or no two others are left: as `tables.py`. */
export function incomparable(report: Report, baseline = report.baseline): ReadonlySet<string> {
  const differ = new Set(report.variants.filter(v => v.agreement?.status === 'differs').map(v => v.name));
  const none = differ.has(baseline ?? '') || report.variants.length - differ.size < 2;
  return differ.size > 0 && none ? new Set(report.variants.map(v => v.name)) : differ;
}

/** Return the same ratio seen from its other side. */
export function turned(r: Ratio): Ratio {
  const inverse = (value: number | null): number | null => (value ? 1 / value : null);
  return {
    ...r,
    variant: r.over,
    over: r.variant,
    median: 1 / r.median,
    low: inverse(r.high),
    high: inverse(r.low),
    least: inverse(r.most),
    most: inverse(r.least),
    verdict: TURNED[r.verdict] ?? r.verdict
  };
}

function span(r: Ratio): string | undefined {
  return r.low && r.high ? between(r.low, r.high) : undefined;
}

/** Say whether the quotient of the times, as a reader divides them, contradicts a ratio: as `tables.py`. */
function contradicted(report: Report, r: Ratio): boolean {
  const [one, base] = [r.variant, r.over].map(name => report.variants.find(v => v.name === name)?.time?.median);
  const quotient = one && base ? one / base : r.median;
  const opposite = Math.log(quotient) * Math.log(r.median) < 0 && r.verdict in TURNED;
  return Math.abs(Math.log(quotient / r.median)) > APART || opposite;
}

/** Return a time with a word on whether it contradicts a ratio. */
function time(cell: string, report: Report, r: Ratio | undefined): string {
  const bare = cell.replace(MOVED, ')');
  return r !== undefined && contradicted(report, r) ? bare.replace(/\)$/, MOVED) : bare;
}

/** Return what the table of figures says of a variant over the baseline. */
function figure(variant: string, name: string, over: ReadonlyMap<string, Ratio>, other: ReadonlySet<string>): string {
  if (variant === name) {
    return '1 (baseline)';
  }
  const r = over.get(variant);
  if (r === undefined) {
    return 'n/a';
  }
  if (other.has(variant)) {
    return `${ratio(r.median)} (${DIFFER})`;
  }
  const range = r.rounds === 1 ? 'one round' : `range ${r.least && r.most ? between(r.least, r.most) : 'n/a'}`;
  return `${ratio(r.median)} (${span(r) ?? range})`;
}
