import { describe, expect, it } from 'vitest';

import { ordered } from '../src/order';

const column = (cells: string[], descending = false): string[] =>
  ordered(
    cells.map(cell => [cell]),
    { column: 0, descending }
  ).map(([cell]) => cell);

describe('ordered', () => {
  it('goes by the size of figures in any unit, and leaves what has none at the end', () => {
    const times = ['1.00 ms (0.950-1.05 ms)', 'n/a', '900 µs', '1.20 s', '35.0 ns'];
    expect(column(times)).toEqual(['35.0 ns', '900 µs', '1.00 ms (0.950-1.05 ms)', '1.20 s', 'n/a']);
    expect(column(times, true)).toEqual(['1.20 s', '1.00 ms (0.950-1.05 ms)', '900 µs', '35.0 ns', 'n/a']);
    expect(column(['+0.250 to 31.0 MiB', '+1.20 KiB', '0 B'])).toEqual(['0 B', '+1.20 KiB', '+0.250 to 31.0 MiB']);
    expect(column(['1 (baseline)', '0.391 (0.383-0.399)', '4.56 M'])).toEqual([
      '0.391 (0.383-0.399)',
      '1 (baseline)',
      '4.56 M'
    ]);
  });

  it('goes by the alphabet where there are no figures, and keeps the order of equals and without a column', () => {
    expect(column(['whole cell', 'no', 'functions'])).toEqual(['functions', 'no', 'whole cell']);
    const rows = [['b', '1'], ['a', '1']]; // prettier-ignore
    expect(ordered(rows, { column: 1, descending: false })).toEqual(rows);
    expect(ordered(rows, null)).toBe(rows);
  });
});
