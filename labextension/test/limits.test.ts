import { describe, expect, it } from 'vitest';

import { limited } from '../src/limits';
import { lines, report, variant, words } from './reports';

const many = <T>(count: number, of: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => of(i));

describe('limited', () => {
  it('shows all of a report of sixty variants', () => {
    const sixty = report({ variants: many(60, i => variant(`v${i}`)) });
    expect(limited(sixty)).toEqual({ report: sixty, left: [] });
  });

  it('leaves out what no page can draw, and says how much', () => {
    const samples = many(100_000, i => i);
    const timed = (name: string) => {
      const one = variant(name);
      return { ...one, time: one.time && { ...one.time, samples } };
    };
    const shown = limited(report({ variants: many(1000, i => timed(`v${i}`)) }));
    expect(shown.report.variants).toHaveLength(60);
    expect(shown.report.variants[0].time?.samples.slice(0, 2)).toEqual([0, 5000]);
    expect(shown.left).toEqual(['940 of 1000 variants', '5998800 of 6000000 samples']);
  });

  it('cuts long texts, and what is too much in sum', () => {
    const line = { label: 'x', text: 'y'.repeat(2000), warning: false, finding: null };
    const told = words({ details: [{ name: 'all', lines: many(5000, () => line) }] });
    const shown = limited(report({ words: told, cell: 'z'.repeat(10_000) })).report;
    expect(shown.cell).toHaveLength(4001);
    const lines = shown.words?.details[0].lines ?? [];
    expect(lines).toHaveLength(2400);
    expect(lines.map(one => one.text.length).slice(0, 2)).toEqual([1001, 1001]);
    expect(lines.reduce((sum, one) => sum + one.text.length, 0)).toBeLessThan(53_000);
  });

  it('shows a cell line by line as far as a page can', () => {
    expect(limited(lines())).toEqual({ report: lines(), left: [] });
    const visits = many(100_000, i => ({ line: 2, time: i, passage: 0, traced: false, told: [] }));
    const shown = limited(lines({ visits }));
    expect(shown.report.visits).toHaveLength(2400);
    expect(shown.left).toEqual(['97600 of 100000 visits']);
  });

  it('leaves the report itself as it is, for what is saved', () => {
    const long = report({ cell: 'z'.repeat(10_000) });
    limited(long);
    expect(long.cell).toHaveLength(10_000);
  });
});
