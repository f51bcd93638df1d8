import { expect, it } from 'vitest';

import { between, clock, cut, ratio } from '../src/format';
import ratios from './ratios.json';

// tests/test_format.py holds fwmagic/format.py to the same pairs.
it.each(ratios as [number, string][])('the ratio %d is %s', (value, text) => {
  expect(ratio(value)).toBe(text);
});

it.each([
  [0.9713, 1.0204, '0.971-1.020'],
  [1.0001, 1.0004, '1.0001-1.0004'],
  [0.5012, 0.5014, '0.5012-0.5014'],
  [0.5, 0.5, '0.500']
])('the span of %d and %d is %s, with as many digits as tell them apart', (low, high, text) => {
  expect(between(low, high)).toBe(text);
});

it('words a time of day as the output of a cell', () => {
  expect(clock(new Date(2026, 10, 22, 13, 5, 9))).toBe('13:05:09');
});

it('cuts a text after a word', () => {
  expect(cut('an error: of many words', 16)).toBe('an error: of…');
  expect(cut('an error: of many', 11)).toBe('an error…');
  expect(cut('exactly to the end of it', 18)).toBe('exactly to the…');
  expect(cut('x'.repeat(9), 8)).toBe('xxxxxxx…');
  expect(cut('short', 5)).toBe('short');
});
