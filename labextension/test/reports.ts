/** Reports for the tests, as a notebook stores them: the words are short, but in their places. */

import type { Lines, Report, Variant, Words } from '../src/read';

export function variant(name: string, median = 1e-3, fields: Partial<Variant> = {}): Variant {
  return {
    name,
    section: name,
    framework: name,
    mode: 'auto',
    status: 'timed',
    note: '',
    options: {},
    returned: [],
    time: {
      samples: [median, 1.1 * median, 0.9 * median],
      median,
      low: 0.95 * median,
      high: 1.05 * median,
      calls_per_block: 1,
      calls: 3,
      dispatch: null,
      wait: null,
      alone: null,
      cores: null,
      page_faults: null,
      warm: true,
      voided: 0,
      items_per_second: null,
      source: ''
    },
    compilation: null,
    agreement: null,
    failure: null,
    memory: [],
    source: '',
    colour: '#2080C4',
    ...fields
  };
}

export function words(fields: Partial<Words> = {}): Words {
  return {
    headline: [],
    brief: 'jax 2.0x faster',
    figures: { head: [], rows: [] },
    charts: {
      times: [[['1.00 ms', '0.950-1.05 ms', '3']], [['500 µs', '475-525 µs', '3']]],
      ratios: [[], [['torch', '0.500', '0.480-0.520', 'faster']]]
    },
    details: [],
    conditions: [],
    budget: '2.00 s',
    sign: '✓',
    name: '',
    scale: [],
    ...fields
  };
}

export function report(fields: Partial<Report> = {}): Report {
  return {
    run_id: 'one',
    started: '2026-11-22T10:00:00+00:00',
    magic: 'compare',
    state: 'done',
    variants: [variant('torch'), variant('jax', 0.5e-3)],
    ratios: [
      {
        variant: 'jax',
        over: 'torch',
        median: 0.5,
        low: 0.48,
        high: 0.52,
        verdict: 'faster',
        rounds: 10,
        batches: 10,
        least: null,
        most: null,
        repeatable: true,
        regimes: [],
        note: ''
      }
    ],
    findings: [],
    conditions: {
      versions: { torch: '2.13.0' },
      devices: {},
      threads: {},
      settings: {},
      inputs: '',
      load_before: null,
      load_during: null,
      neighbours: [],
      machine: '',
      process: ''
    },
    budget: 2,
    spent: 1,
    margin: 0.01,
    baseline: 'torch',
    fastest: 'jax',
    progress: 1,
    execution_count: 1,
    note: '',
    cell: '',
    updated: '',
    version: 1,
    words: words(),
    ...fields
  };
}

/** A cell of two lines, the second in a function of another cell: traced once, and run twice. */
export function lines(fields: Partial<Lines> = {}): Lines {
  const visit = (line: number, time: number, traced: boolean, told: string[]) => ({
    line,
    time,
    traced,
    told,
    passage: line === 2 ? 0 : 1
  });
  return {
    run_id: 'lines',
    started: '2026-11-22T10:00:00+00:00',
    name: '%%jax --debug',
    brief: '1 found',
    answer: 'it ran once; 1 found: `print` while tracing in line 2.',
    execution_count: 3,
    passages: [
      { name: '', lines: [{ number: 2, text: 'f(x)', marked: true, note: '' }] },
      { name: 'f', lines: [{ number: 7, text: '    return x', marked: false, note: '' }] }
    ],
    visits: [
      visit(7, 1, true, ['→ float32[] tracer']),
      visit(7, 1, false, ['→ float32[] 0']),
      visit(2, 1, false, []),
      visit(7, 2, false, ['→ float32[] 1'])
    ],
    note: '',
    version: 1,
    ...fields
  };
}
