import { describe, expect, it } from 'vitest';

import { incomparable, rebased } from '../src/baseline';
import { charts } from '../src/specs';
import { report, variant, words } from './reports';

const pair = report().ratios[0];
const three = report({
  variants: [variant('torch'), variant('jax', 0.5e-3), variant('numpy', 2e-3)],
  ratios: [
    pair,
    { ...pair, variant: 'numpy', median: 2, low: 1.9, high: 2.1, verdict: 'slower' },
    { ...pair, variant: 'numpy', over: 'jax', median: 4, low: null, high: null, verdict: 'undecided' }
  ],
  words: words({
    figures: {
      head: ['variant', 'time per call', 'paired ratio to torch'],
      rows: [
        ['torch', '1.00 ms', '1 (baseline)'],
        ['jax', '500 µs', '0.500 (0.480-0.520)'],
        ['numpy', '2.00 ms', '2.00 (1.90-2.10)']
      ]
    }
  })
});

describe('rebased', () => {
  it('turns the stored ratios to the baseline, with their intervals and verdicts', () => {
    const found = rebased(three, 'jax');
    expect(found.baseline).toBe('jax');
    const [turned, , numpy] = found.ratios;
    expect(turned).toMatchObject({ variant: 'torch', over: 'jax', median: 2, low: 1 / 0.52, verdict: 'slower' });
    expect(numpy).toBe(three.ratios[2]);
    expect(found.words?.figures).toEqual({
      head: ['variant', 'time per call', 'paired ratio to jax'],
      rows: [
        ['torch', '1.00 ms', '2.00 (1.92-2.08)'],
        ['jax', '500 µs', '1 (baseline)'],
        ['numpy', '2.00 ms', '4.00 (range n/a)']
      ]
    });
    const drawn = charts([found]).find(chart => chart.name === 'ratios');
    expect(drawn?.table.rows).toEqual([
      ['torch', 'jax', '2.00', '1.92-2.08', 'slower'],
      ['numpy', 'jax', '4.00', 'n/a', 'undecided']
    ]);
    expect((drawn?.spec.datasets as { ratios: { label: string }[] }).ratios.map(r => r.label)).toEqual([
      'torch',
      'numpy'
    ]);
  });

  it('leaves a report as it is over its own baseline, and over what it does not have', () => {
    expect(rebased(three, 'torch')).toBe(three);
    expect(rebased(three, 'gone')).toBe(three);
    const bare = report({ words: undefined });
    expect(rebased(bare, 'jax')).toBe(bare);
  });

  it('says of a ratio of different things that it is one', () => {
    const differs = { reference: 'torch', status: 'differs' as const, sentence: '', path: null, pair: [] };
    const [torch, jax, numpy] = three.variants;
    const found = rebased({ ...three, variants: [torch, { ...jax, agreement: differs }, numpy] }, 'numpy');
    expect(found.words?.figures.rows.map(row => row[2])).toEqual([
      '0.500 (0.476-0.526)',
      '0.250 (outputs differ)',
      '1 (baseline)'
    ]);
    expect(found.words?.charts.ratios[1][0][3]).toBe('outputs differ');
    expect([...incomparable({ ...three, variants: [torch, { ...jax, agreement: differs }] })]).toEqual([
      'torch',
      'jax'
    ]);
    const all = { ...three, variants: [torch, { ...jax, agreement: differs }, numpy] };
    expect([...incomparable(all)]).toEqual(['jax']);
    expect([...incomparable(all, 'jax')]).toEqual(['torch', 'jax', 'numpy']);
    expect([...incomparable(three)]).toEqual([]);
  });

  it('says beside a time that it contradicts a ratio, if one divides', () => {
    const [torch, jax, numpy] = three.variants;
    const rows = [
      ['torch', '1.00 ms (0.950-1.05 ms, moved)', ''],
      ['jax', '500 µs (475-525 µs)', '']
    ];
    const figures = { head: three.words?.figures.head ?? [], rows };
    const times = (median: number, verdict: 'faster' | 'same', of = jax) => {
      const ratios = [{ ...pair, median, verdict }];
      const variants = [torch, of, numpy];
      return rebased({ ...three, ratios, variants, words: words({ figures }) }, 'jax').words?.figures.rows.map(
        r => r[1]
      );
    };
    const [agrees, moved] = ['1.00 ms (0.950-1.05 ms)', '1.00 ms (0.950-1.05 ms, moved)'];
    expect(times(0.52, 'faster')).toEqual([agrees, '500 µs (475-525 µs)']);
    expect(times(0.53, 'faster')).toEqual([moved, '500 µs (475-525 µs)']);
    const slower = { ...jax, time: torch.time && { ...torch.time, median: 1.01e-3 } };
    expect(times(0.98, 'same', slower)?.[0]).toBe(agrees);
    expect(times(0.98, 'faster', slower)?.[0]).toBe(moved);
  });

  it('comes back to what was stored', () => {
    const there = rebased(three, 'numpy');
    expect(rebased(there, 'torch').words?.figures).toEqual(three.words?.figures);
  });
});
