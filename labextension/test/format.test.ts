import { describe, expect, it } from 'vitest';

import { digits, ratio, seconds, size } from '../src/format';

// What fwmagic/format.py gives: tests/test_format.py has the same pairs.
describe('format', () => {
  it.each([
    [0, '0 s'],
    [1.234, '1.23 s'],
    [0.001234, '1.23 ms'],
    [0.00099951, '1.00 ms'],
    [0.000999, '999 µs'],
    [12.5e-6, '12.5 µs'],
    [3e-9, '3.00 ns'],
    [120, '120 s']
  ])('%d seconds are %s', (value, text) => {
    expect(seconds(value)).toBe(text);
  });

  it.each([
    [0.43, '0.430'],
    [0.9995, '1.000'],
    [1.013, '1.013'],
    [1.5, '1.50'],
    [12.34, '12.3']
  ])('the ratio %d is %s', (value, text) => {
    expect(ratio(value)).toBe(text);
  });

  it.each([
    [512, '512 B'],
    [1536, '1.50 KiB'],
    [1.5 * 1024 ** 3, '1.50 GiB']
  ])('%d bytes are %s', (value, text) => {
    expect(size(value)).toBe(text);
  });

  it('rounds up to one digit less behind the point', () => {
    expect(digits(9.999)).toBe('10.0');
  });
});
