import { describe, expect, it } from 'vitest';

import { charts, memoryLeftOut, sized } from '../src/specs';
import { report, variant, words } from './reports';

const stage = (name: string, seconds: number | null) => ({ name, seconds, source: '' });
const compilation = {
  way: 'cell' as const,
  reason: '',
  line: null,
  compiled: [],
  stages: [stage('prime', 8), stage('trace', 0.1), stage('lower', null), stage('backend', 0.5)],
  cache: 'cold',
  graphs: 1,
  breaks: [],
  recompiles: [],
  lifted: 0,
  every_call: false
};
const ledger = {
  device: 'cuda:0',
  total: 100,
  peak: [
    { kind: 'in use' as const, bytes: 2048, source: 'counters', why: '', most: null },
    { kind: 'context' as const, bytes: null, source: '', why: 'no driver', most: null }
  ],
  timeline: { seconds: [0, 1], in_use: [10, 1024], held: [20, null] },
  source: 'events',
  note: '',
  start: null,
  released: [],
  lines: [],
  how: 'measured' as const
};
const all = report({
  variants: [variant('torch', 1e-3, { compilation, memory: [ledger] })],
  words: words({
    charts: {
      times: [[['1.00 ms', '0.950-1.05 ms', '3']]],
      ratios: [[['numpy', '0.500', '0.480-0.520', 'faster']]],
      stages: [
        [
          ['trace', '100 ms'],
          ['backend', '500 ms']
        ]
      ],
      memory: [
        [
          ['cuda:0', 'in use', '2.00 KiB'],
          ['cuda:0', 'context', 'not available']
        ]
      ],
      timeline: [[['cuda:0', '1.00 KiB', '20 B', '2']]]
    }
  })
});

describe('charts', () => {
  it('draws a ratio that is stored the other way round over the baseline, too', () => {
    const other = { ...report().ratios[0], variant: 'torch', over: 'jax', median: 2, low: 1.9, high: 2.1 };
    const ratios = charts([report({ ratios: [{ ...other, verdict: 'slower' }] })]).at(1);
    const drawn = (ratios?.spec.datasets as { ratios: object[] }).ratios;
    expect(drawn).toEqual([
      expect.objectContaining({
        label: 'jax',
        over: 'torch',
        median: 0.5,
        low: 1 / 2.1,
        high: 1 / 1.9,
        verdict: 'faster'
      })
    ]);
  });

  it('draws as many devices of a variant as a machine has, and tells of all', () => {
    const many = Array.from({ length: 500 }, () => ledger);
    const memory = charts([{ ...all, variants: [{ ...all.variants[0], memory: many }] }])[3];
    expect((memory.spec.datasets as { variants: { memory: object[] }[] }).variants[0].memory).toHaveLength(20);
  });

  it('draws only what there are figures for', () => {
    expect(charts([report()]).map(chart => chart.name)).toEqual(['times', 'ratios']);
    expect(charts([report({ words: words({ charts: {} }) })])).toEqual([]);
    expect(charts([report({ words: undefined })])).toEqual([]);
    expect(charts([all]).map(chart => chart.name)).toEqual(['times', 'ratios', 'stages', 'memory', 'timeline']);
  });

  it('has the words of the report in the table behind each, and the sources beside them', () => {
    const tables = Object.fromEntries(charts([all]).map(chart => [chart.name, chart.table]));
    expect(tables.times.head).toEqual(['variant', 'median per call', '95 % interval', 'samples']);
    expect(tables.times.rows).toEqual([['torch', '1.00 ms', '0.950-1.05 ms', '3']]);
    expect(tables.ratios.rows).toEqual([['torch', 'numpy', '0.500', '0.480-0.520', 'faster']]);
    expect(tables.stages.rows).toEqual([
      ['torch', 'trace', '100 ms'],
      ['torch', 'backend', '500 ms']
    ]);
    expect(tables.memory.rows).toEqual([
      ['torch', 'cuda:0', 'in use', '2.00 KiB', 'counters'],
      ['torch', 'cuda:0', 'context', 'not available', 'no driver']
    ]);
    expect(tables.timeline.rows).toEqual([['torch', 'cuda:0', '1.00 KiB', '20 B', '2', 'events']]);
    for (const { head, rows } of Object.values(tables)) {
      expect(rows.map(row => row.length)).toEqual(rows.map(() => head.length));
    }
  });

  it('puts two reports into one chart, each variant beside itself, and tells their rows apart', () => {
    const [times] = charts([report(), report({ run_id: 'two' })]);
    expect(times.table.rows.map(row => row[0])).toEqual(['① torch', '② torch', '① jax', '② jax']);
    const { variants } = times.spec.datasets as { variants: { label: string }[] };
    expect(variants.map(v => v.label)).toEqual(['① torch', '② torch', '① jax', '② jax']);
  });

  it('draws all times from where to where the reports say, and of two reports where both do', () => {
    const shown = (...scales: number[][]) => {
      const [times] = charts(scales.map((scale, i) => report({ run_id: String(i), words: words({ scale }) })));
      return (times.spec.datasets as { variants: { shown?: number[] }[] }).variants.map(v => v.shown);
    };
    expect(shown([0, 2e-3])).toEqual([
      [0, 2e-3],
      [0, 2e-3]
    ]);
    expect(shown([2, 3], [3, 3.5])[0]).toEqual([2, 3.5]);
    expect(shown([2, 3], [3, 9])[3]).toEqual([0, 9]);
    expect(shown([])).toEqual([undefined, undefined]);
  });

  it('says how many dots are beyond the axis of times, and whether it begins at 0', () => {
    const title = (...scale: number[]) => charts([report({ words: words({ scale }) })])[0].title;
    expect(title(0, 2e-3)).toBe('Time per call: ● block, ┃ median, ▒ 95 % interval');
    expect(title(0, 1e-3)).toContain('interval, ▸ 1 slower dot');
    expect(title(4e-4, 5.2e-4)).toContain(', ▸ 4 slower dots, axis not from 0');
    const going = report({ state: 'running', words: words({ scale: [4e-4, 5.2e-4] }) });
    expect(charts([going])[0].title).toBe(title(0, 2e-3));
  });

  it('says what the thin bars of a compilation are', () => {
    const title = (cache: string) =>
      charts([{ ...all, variants: [{ ...all.variants[0], compilation: { ...compilation, cache } }] }])[2].title;
    expect(title('cold')).toBe('Compile stages');
    expect(title('disk-warm')).toBe('Compile stages, thin: from the disk cache');
  });

  it('says with the words of the figures that ranges of memory have no order', () => {
    const title = (memory: string) => {
      const figures = { head: ['variant', memory, 'compiled'], rows: [] };
      return charts([{ ...all, words: all.words && { ...all.words, figures } }])[3].title;
    };
    expect(title('memory')).toBe('Memory at the peak');
    expect(title('memory (not sure)')).toBe('Memory at the peak (not sure)');
  });

  it('tells why there is no memory', () => {
    const told = (text: string) => {
      const conditions = [{ label: 'left out', text, warning: false, finding: null }];
      return memoryLeftOut(report({ words: words({ conditions }) }));
    };
    expect(told('memory: 12.0 KiB at most; compile: nothing was compiled')).toBe('memory: 12.0 KiB at most');
    expect(told('compile: nothing was compiled')).toBe('');
    expect(memoryLeftOut(report({ words: undefined }))).toBe('');
  });

  it('draws weak what is of different things', () => {
    const differs = { reference: 'torch', status: 'differs' as const, sentence: '', path: null, pair: [] };
    const variants = [variant('torch'), variant('jax', 0.5e-3, { agreement: differs })];
    const drawn = charts([report({ variants })])[0].spec.datasets as Record<'variants' | 'ratios', { void: boolean }[]>;
    expect(drawn.variants.map(v => v.void)).toEqual([true, true]);
    expect(drawn.ratios.map(r => r.void)).toEqual([true]);
    const title = (...shown: Parameters<typeof charts>[0]) => charts(shown)[1].title;
    expect(title(report(), report({ variants }))).toMatch(/\(log axis\), ✕ outputs differ$/);
    expect(title(report())).toMatch(/\(log axis\)$/);
  });

  it('fits the width, with a legend in columns where that is narrow', () => {
    const spec = {
      datasets: { labelLimit: 1 },
      height: { step: 34 },
      encoding: { x: { title: 'time' }, y: { axis: { labelLimit: 240 } }, tooltip: [{ title: 'size' }] }
    };
    expect(sized(spec, 200)).toMatchObject({
      width: 200,
      height: { step: 26 },
      datasets: { labelLimit: 1 },
      encoding: { x: { title: null }, y: { axis: { labelLimit: 72 } }, tooltip: [{ title: 'size' }] },
      config: { axis: { labelSeparation: 6 }, legend: { columns: 1 } }
    });
    expect(sized(spec, 600)).toMatchObject({
      width: 600,
      encoding: { y: { axis: { labelLimit: 150 } } },
      config: { legend: { columns: 0 } }
    });
  });

  it('draws in the colour of text what is grey on any ground', () => {
    const spec = {
      layer: [{ encoding: { color: { value: '#707070' } } }, { encoding: { color: { value: '#123456' } } }]
    };
    expect(sized(spec, 200, 'white')).toMatchObject({
      layer: [{ encoding: { color: { value: 'white' } } }, { encoding: { color: { value: '#123456' } } }]
    });
  });
});
