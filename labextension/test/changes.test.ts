import { describe, expect, it } from 'vitest';

import { changes } from '../src/changes';
import { report, variant, words } from './reports';

describe('changes', () => {
  it('has both times with their ratio and its interval, and nothing else between equal runs', () => {
    const later = report({ run_id: 'two', variants: [variant('torch', 1.02e-3), variant('jax', 0.5e-3)] });
    expect(changes(report(), later)).toEqual({
      answer:
        'no sure change of torch (0.923-1.13 of its time), jax (0.905-1.11 of its time); same code, variants and conditions',
      times: [
        {
          what: 'torch per call',
          before: '1.00 ms (0.950-1.05 ms)',
          after: '1.00 ms (0.950-1.05 ms) (ratio 1.020, 0.923-1.13)'
        },
        { what: 'jax per call', before: '500 µs (475-525 µs)', after: '500 µs (475-525 µs) (ratio 1.000, 0.905-1.11)' }
      ],
      others: [],
      code: []
    });
  });

  it('has no interval of a ratio where a time has none', () => {
    const times = [[['1.00 ms', 'n/a', '3']], [['250 µs', '', '3']]];
    const alone = variant('jax', 0.25e-3);
    const later = report({
      variants: [variant('torch'), { ...alone, time: alone.time && { ...alone.time, low: null } }],
      words: words({ charts: { times } })
    });
    expect(changes(report(), later).times.at(1)?.after).toBe('250 µs (ratio 0.500)');
  });

  it('says first what is sure, and how much else changed', () => {
    const later = report({
      cell: '%%compare\n%%torch\ny',
      variants: [variant('torch', 0.5e-3), variant('jax', 0.5e-3)]
    });
    expect(changes(report({ cell: '%%compare\n%%torch\nx' }), later).answer).toBe(
      'torch is 2.00x faster than in ① (1.81-2.21x); no sure change of jax (0.905-1.11 of its time); 1 changed line of code'
    );
    expect(changes(report(), report({ variants: [variant('torch', 2e-3)], budget: 5 })).answer).toBe(
      'torch is 2.00x slower than in ① (1.81-2.21x); 1 other difference'
    );
  });

  it('claims no more of a size than its interval', () => {
    const torch = (median: number, half: number) => {
      const one = variant('torch', median);
      return report({
        variants: [{ ...one, time: one.time && { ...one.time, low: median - half, high: median + half } }]
      });
    };
    const told = (factor: number) => changes(torch(1, 0.05), torch(factor, 0.05)).answer;
    expect(told(1 / 1.8)).toMatch(/^torch is 1.80x faster than in ① \(1.57-2.08x\);/);
    expect(told(2)).toMatch(/^torch is 2.00x slower than in ① \(1.86-2.16x\);/);
    expect(told(1.15)).toMatch(/^torch is 1.048-1.26x slower than in ①;/);
  });

  it('counts edits: a line in the place of another is one', () => {
    const count = (before: string, after: string) =>
      /(\d+) changed/.exec(changes(report({ cell: before }), report({ cell: after })).answer)?.[1];
    expect(count('a\nb\nc\nd', 'A\nb\nC\nd')).toBe('2');
    expect(count('a\nb', 'A\nB')).toBe('2');
    expect(count('a', 'a\nb\nc')).toBe('2');
    expect(count('a\nb\nc', 'a')).toBe('2');
  });

  it('names what came, went and was set', () => {
    const how = (compiled: string) => ({ head: ['variant', 'compiled'], rows: [['torch', compiled]] });
    const later = report({
      variants: [variant('torch', 1e-3, { options: { seed: '1' } }), variant('numpy')],
      ratios: [{ ...report().ratios[0], verdict: 'same' }],
      conditions: { ...report().conditions, versions: { torch: '2.14.0' }, machine: 'another' },
      budget: 5,
      words: words({ budget: '5.00 s', figures: how('no') })
    });
    expect(changes(report({ words: words({ figures: how('whole cell') }) }), later).others).toEqual([
      { what: 'torch compiled', before: 'whole cell', after: 'no' },
      { what: 'torch --seed', before: 'not given', after: '1' },
      { what: 'jax', before: 'timed', after: 'not there' },
      { what: 'numpy', before: 'not there', after: 'timed' },
      { what: 'jax over torch', before: 'faster', after: 'same' },
      { what: 'versions: torch', before: '2.13.0', after: '2.14.0' },
      { what: 'machine', before: 'not told', after: 'another' },
      { what: 'budget', before: '2.00 s', after: '5.00 s' }
    ]);
  });

  it('counts what is the same of several variants once, and no option that is in the changed lines', () => {
    const how = (compiled: string, mode: string, size: string) => {
      const told = ['torch', 'jax'].map(name => [name, compiled]);
      const memory = [[['host', 'in use', size]], [['host', 'in use', size]]];
      return {
        variants: [variant('torch', 1e-3, { options: { mode } }), variant('jax', 0.5e-3, { options: { mode } })],
        words: words({ figures: { head: ['variant', 'compiled'], rows: told }, charts: { memory } })
      };
    };
    const [before, after] = [how('no', 'eager', '1 MiB'), how('whole cell', 'auto', '2 MiB')];
    expect(changes(report(before), report(after)).others).toEqual([
      { what: 'compiled', before: 'no', after: 'whole cell' },
      { what: '--mode', before: 'eager', after: 'auto' },
      { what: 'memory, host', before: '1 MiB', after: '2 MiB' }
    ]);
    const code = ['%%compare --mode eager -o a\n%%torch\nx', '%%compare --mode=auto --budget 5 -o b\n%%torch\nx'];
    const edited = changes(
      report({ ...before, cell: code[0] }),
      report({ ...after, cell: code[1], words: { ...after.words, budget: '5.00 s' } })
    );
    expect(edited.others.map(one => one.what)).toEqual(['compiled', 'memory, host']);
    expect(edited.answer).toMatch(/; 1 changed line of code and 2 other differences$/);
    const three = (status: 'timed' | 'failed') =>
      report({ variants: ['a', 'b', 'c'].map(name => variant(name, 1, name === 'c' ? {} : { status })) });
    expect(changes(three('timed'), three('failed')).others.map(one => one.what)).toEqual(['a, b']);
    const none = report({ variants: three('timed').variants.map(v => ({ ...v, status: 'failed' as const })) });
    expect(changes(three('timed'), none).others.map(one => one.what)).toEqual(['all variants']);
    const bound = (output: string) => report({ variants: [variant('torch', 1, { options: { output } })] });
    expect(changes(bound('a'), bound('b')).others).toEqual([]);
  });

  it('has the memory in use and the lines of the cell', () => {
    const of = (size: string): string[][][] => [
      [
        ['host', 'in use (sampled)', size],
        ['host', 'free', '1 B']
      ],
      []
    ];
    const before = report({ cell: '%%compare\n%%torch\nx', words: words({ charts: { memory: of('1 MiB') } }) });
    const after = report({ cell: '%%compare\n%%torch\ny', words: words({ charts: { memory: of('2 MiB') } }) });
    const found = changes(before, after);
    expect(found.others).toEqual([{ what: 'torch memory, host', before: '1 MiB', after: '2 MiB' }]);
    // A dash said neither that it was little nor that nobody had looked.
    const without = (text: string) => {
      const conditions = [{ label: 'left out', text, warning: false, finding: null }];
      return changes(before, report({ words: words({ charts: {}, conditions }) })).others[0].after;
    };
    expect(without('memory: 12.0 KiB at most; compile: nothing was compiled')).toBe('12.0 KiB at most');
    expect(without('memory: not measured')).toBe('not measured');
    expect(without('')).toBe('not measured');
    expect(found.code).toEqual(['  %%torch', '- x', '+ y']);
  });
});
