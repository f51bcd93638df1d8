import { describe, expect, it } from 'vitest';

import { limited } from '../src/limits';
import { leftOut, type Lines, read, type Report, whole } from '../src/read';
import { lines, report, variant, words } from './reports';

const many = <T>(count: number, of: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => of(i));

describe('limited', () => {
  it('shows all of a report of sixty variants', () => {
    const sixty = report({ variants: many(60, i => variant(`v${i}`)) });
    expect(limited(sixty)).toEqual({ value: sixty, left: [] });
  });

  it('leaves out what no page can draw, and says how much', () => {
    const samples = many(100_000, i => i);
    const timed = (name: string) => {
      const one = variant(name);
      return { ...one, time: one.time && { ...one.time, samples } };
    };
    const shown = limited(report({ variants: many(1000, i => timed(`v${i}`)) }));
    const { variants } = shown.value as Report;
    expect(variants).toHaveLength(60);
    expect(variants[0].time?.samples.slice(0, 2)).toEqual([0, 5000]);
    expect(shown.left).toEqual(['940 of 1000 variants', '5998800 of 6000000 samples']);
  });

  it('cuts long texts, and what is too much in sum', () => {
    const line = { label: 'x', text: 'y'.repeat(2000), warning: false, finding: null };
    const told = words({ details: [{ name: 'all', lines: many(5000, () => line) }] });
    const shown = limited(report({ words: told, cell: 'z'.repeat(10_000) })).value as Report;
    expect(shown.cell).toHaveLength(4001);
    const lines = shown.words?.details[0].lines ?? [];
    expect(lines).toHaveLength(2400);
    expect(lines.map(one => one.text.length).slice(0, 2)).toEqual([1001, 1001]);
    expect(lines.reduce((sum, one) => sum + one.text.length, 0)).toBeLessThan(53_000);
  });

  it('shows a cell line by line as far as a page can', () => {
    expect(limited(lines())).toEqual({ value: lines(), left: [] });
    const visits = many(100_000, i => ({ line: 2, time: i, passage: 0, traced: false, told: [] }));
    const shown = limited(lines({ visits }));
    expect((shown.value as Lines).visits).toHaveLength(2400);
    expect(shown.left).toEqual(['97600 of 100000 visits']);
  });

  it('goes neither through all of what is huge nor down all of what is deep', () => {
    let deep: unknown = 1;
    for (let i = 0; i < 100_000; i++) {
      deep = [deep];
    }
    const wide = Object.fromEntries(many(100_000, i => [`k${i}`, [i]]));
    const touched = new Proxy(
      many(100_000, () => 'x'),
      {
        get: (list, key) => {
          if (typeof key === 'string' && Number(key) >= 2400) {
            throw new Error(`item ${key} was looked at`);
          }
          return Reflect.get(list, key) as unknown;
        }
      }
    );
    const { value, left } = limited({ ...report(), deep, wide, touched });
    expect(Object.keys((value as { wide: object }).wide)).toHaveLength(200);
    expect(left).toContain('97600 of 100000 touched');
    expect(read({ ...report(), deep, wide, touched }).kind).toBe('report');
  });

  it('leaves the report itself as it is, for what is saved', () => {
    const long = report({ cell: 'z'.repeat(10_000) });
    const found = read(long);
    expect(long.cell).toHaveLength(10_000);
    const told = found.kind === 'report' ? found.report : report();
    expect(leftOut(told)).toEqual(['6000 of 10000 characters of cell']);
    expect(whole(told)).toBe(long);
  });
});
