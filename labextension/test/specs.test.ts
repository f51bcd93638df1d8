import { describe, expect, it } from 'vitest';

import { charts, sized } from '../src/specs';
import { report, variant } from './reports';

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
    { name: 'in use', bytes: 2048, source: 'counters' },
    { name: 'context', bytes: null, source: 'no driver' }
  ],
  timeline: { seconds: [0, 1], in_use: [10, 1024], held: [20, null] },
  source: 'events',
  note: '',
  start: null,
  released: [],
  lines: []
};

describe('charts', () => {
  it('draws only what there are figures for', () => {
    expect(charts([report()]).map(chart => chart.name)).toEqual(['times', 'ratios']);
    expect(charts([report({ variants: [], ratios: [] })])).toEqual([]);
    const all = report({ variants: [variant('torch', 1, { compilation, memory: [ledger] })] });
    expect(charts([all]).map(chart => chart.name)).toEqual(['times', 'ratios', 'stages', 'memory', 'timeline']);
  });

  it('has the same figures in the table behind each', () => {
    const all = report({ variants: [variant('torch', 1e-3, { compilation, memory: [ledger] })] });
    const rows = Object.fromEntries(charts([all]).map(chart => [chart.name, chart.table.rows]));
    expect(rows.times).toEqual([['torch', '1.00 ms', '950 µs – 1.05 ms', '3']]);
    expect(rows.ratios).toEqual([['jax', 'torch', '0.500', '0.480 – 0.520', 'faster']]);
    expect(rows.stages).toEqual([
      ['torch', 'trace', '100 ms'],
      ['torch', 'backend', '500 ms']
    ]);
    expect(rows.memory).toEqual([
      ['torch', 'cuda:0', 'in use', '2.00 KiB', 'counters'],
      ['torch', 'cuda:0', 'context', 'not available', 'no driver']
    ]);
    expect(rows.timeline).toEqual([['torch', 'cuda:0', '1.00 KiB', '20 B', '2', 'events']]);
  });

  it('puts two reports into one chart and tells their rows apart', () => {
    const [times] = charts([report(), report({ run_id: 'two' })]);
    expect(times.table.rows.map(row => row[0])).toEqual(['① torch', '① jax', '② torch', '② jax']);
    const { variants } = times.spec.datasets as { variants: { label: string }[] };
    expect(variants.map(v => v.label)).toEqual(['① torch', '① jax', '② torch', '② jax']);
  });

  it('shows no interval where there is none', () => {
    const bare = variant('torch');
    const time = bare.time && { ...bare.time, low: null, high: null };
    expect(charts([report({ variants: [{ ...bare, time }] })])[0].table.rows[0][2]).toBe('–');
  });

  it('fits the width, with a legend in columns where that is narrow', () => {
    const spec = { datasets: { labelLimit: 1 }, encoding: { y: { axis: { labelLimit: 240 } } } };
    expect(sized(spec, 200)).toMatchObject({
      width: 200,
      datasets: { labelLimit: 1 },
      encoding: { y: { axis: { labelLimit: 60 } } },
      config: { axis: { labelSeparation: 6 }, legend: { columns: 1 } }
    });
    expect(sized(spec, 600)).toMatchObject({
      width: 600,
      encoding: { y: { axis: { labelLimit: 150 } } },
      config: { legend: { columns: 0 } }
    });
  });
});
