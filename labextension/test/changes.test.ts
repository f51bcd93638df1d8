import { describe, expect, it } from 'vitest';

import { changes } from '../src/changes';
import { report, variant, words } from './reports';

describe('changes', () => {
  it('finds none between equal runs, nor between times whose intervals meet', () => {
    const later = report({ run_id: 'two', variants: [variant('torch', 1.02e-3), variant('jax', 0.5e-3)] });
    expect(changes(report(), later)).toEqual([]);
  });

  it('names a time whose interval lies apart', () => {
    const times = [[['1.00 ms', '', '3']], [['250 µs', '', '3']]];
    const later = report({
      variants: [variant('torch'), variant('jax', 0.25e-3)],
      words: words({ charts: { times } })
    });
    expect(changes(report(), later)).toEqual([
      { what: 'jax per call', before: '500 µs', after: '250 µs (ratio 0.500)' }
    ]);
  });

  it('names what came, went and was set', () => {
    const later = report({
      variants: [variant('torch', 1e-3, { mode: 'eager', options: { seed: '1' } }), variant('numpy')],
      ratios: [{ ...report().ratios[0], verdict: 'same' }],
      conditions: { ...report().conditions, versions: { torch: '2.14.0' }, machine: 'another' },
      budget: 5,
      words: words({ budget: '5.00 s' })
    });
    expect(changes(report(), later)).toEqual([
      { what: 'torch mode', before: 'auto', after: 'eager' },
      { what: 'torch --seed', before: '–', after: '1' },
      { what: 'jax', before: 'timed', after: '–' },
      { what: 'numpy', before: '–', after: 'timed' },
      { what: 'jax over torch', before: 'faster', after: 'same' },
      { what: 'versions: torch', before: '2.13.0', after: '2.14.0' },
      { what: 'machine', before: '', after: 'another' },
      { what: 'budget', before: '2.00 s', after: '5.00 s' }
    ]);
  });
});
