import { expect, it } from 'vitest';

import { ratio } from '../src/format';
import ratios from './ratios.json';

// tests/test_format.py holds fwmagic/format.py to the same pairs.
it.each(ratios as [number, string][])('the ratio %d is %s', (value, text) => {
  expect(ratio(value)).toBe(text);
});
