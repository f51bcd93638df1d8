import { describe, expect, it } from 'vitest';

import { ANY_VERSION, isLines, isReport, LINES_MIME, MIME, read } from '../src/read';
import { lines, report, variant, words } from './reports';

/** Read what is a report. */
function readReport(value: unknown) {
  const found = read(value);
  if (found.kind !== 'report' || !isReport(found.report)) {
    throw new Error('it is no report');
  }
  return found.report;
}

describe('read', () => {
  it('takes a report, also one with fields that a later fwmagic added', () => {
    expect(read(report()).kind).toBe('report');
    expect(read({ ...report(), later: 1 }).kind).toBe('report');
  });

  it('puts back what a stored report leaves out because it holds its default, and leaves the stored one alone', () => {
    const whole = report();
    const stored = { run_id: 'one', started: whole.started, magic: 'compare', state: 'done', version: 1 };
    const words = { headline: [{ text: 'a' }], brief: 'a', figures: { head: [], rows: [] }, charts: {} };
    const value = {
      ...stored,
      words: { ...words, details: [], conditions: [{ label: 'a', text: 'b' }], budget: '2 s' }
    };
    const found = readReport({ ...value, variants: [{ ...variant('torch'), memory: undefined, note: undefined }] });
    expect(found.ratios).toEqual([]);
    expect(found.conditions.versions).toEqual({});
    expect(found.variants[0]).toEqual(variant('torch'));
    expect(found.words?.conditions[0].warning).toBe(false);
    expect('ratios' in value).toBe(false);
  });

  it('puts the quickest first, with its words, as the output of the cell does', () => {
    const variants = [variant('a', 3e-3), variant('b', 1e-3), variant('failed', 1, { time: null }), variant('c', 2e-3)];
    const rows = variants.map(({ name }) => [name]);
    const told = words({ figures: { head: ['variant'], rows }, charts: { times: rows.map(row => [row]) } });
    const names = (value: object): (string | undefined)[][] => {
      const found = readReport(value);
      return [
        found.variants.map(v => v.name),
        found.words?.figures.rows.map(row => row[0]) ?? [],
        found.words?.charts.times.map(row => row[0][0]) ?? []
      ];
    };
    const order = ['b', 'c', 'a', 'failed'];
    expect(names({ ...report(), variants, words: told })).toEqual([order, order, order]);
    const stored = variants.map(v => v.name);
    expect(names({ ...report(), variants, words: told, state: 'running' })[0]).toEqual(stored);
    const pair = { ...report(), variants: variants.slice(0, 2), words: told };
    expect(names(pair)[0]).toEqual(['b', 'a']);
  });

  it('knows a newer version without looking further', () => {
    expect(read({ version: 7, anything: 'else' })).toEqual({ kind: 'newer', version: 7 });
  });

  it.each([null, 3, 'text', [], undefined])('refuses %s, which is no object', value => {
    expect(read(value)).toEqual({ kind: 'invalid', why: 'it is no JSON object' });
  });

  it.each([
    ['a missing field', { ...report(), magic: undefined }, /magic/],
    ['a wrong type', { ...report(), budget: 'much' }, /\/budget must be number/],
    ['a negative time', { ...report(), variants: [variant('torch', -1)] }, /\/variants\/0\/time.* must be >= 0/],
    ['a number that is none', { ...report(), spent: 'NaN' }, /\/spent must be number/],
    ['no version', { ...report(), version: undefined }, /version/],
    ['an older version', { ...report(), version: 0 }, /\/version must be equal to constant/],
    ['an unknown state', { ...report(), state: 'asleep' }, /\/state must be equal to one of/]
  ])('says where %s is', (_, value, why) => {
    const found = read(value);
    expect(found.kind).toBe('invalid');
    expect(found.kind === 'invalid' && found.why).toMatch(why);
  });

  it('reads a value once', () => {
    const value = report();
    expect(read(value)).toBe(read(value));
  });

  it('takes a cell line by line, and puts back what is left out', () => {
    const found = read({ ...lines(), note: undefined, visits: [{ line: 2, time: 1 }] }, LINES_MIME);
    expect(found.kind === 'report' && isLines(found.report) && [found.report.note, found.report.visits]).toEqual([
      '',
      [{ line: 2, time: 1, passage: 0, traced: false, told: [] }]
    ]);
    expect(read(report()).kind === 'report' && isLines(report())).toBe(false);
  });

  it('takes neither for the other', () => {
    expect(read(report(), LINES_MIME).kind).toBe('invalid');
    expect(read(lines()).kind).toBe('invalid');
    expect(read({ ...lines(), version: 2 }, LINES_MIME)).toEqual({ kind: 'newer', version: 2 });
  });

  it('knows its MIME types, of any version', () => {
    expect(ANY_VERSION.test(MIME)).toBe(true);
    expect(ANY_VERSION.test(LINES_MIME)).toBe(true);
    expect(ANY_VERSION.test('application/vnd.fwmagic.report.v12+json')).toBe(true);
    expect(ANY_VERSION.test('application/json')).toBe(false);
  });
});

it('puts the words of the findings into the remarks, which a notebook stores once', () => {
  const finding = { code: 'FW101', sentence: 'it does nothing.', fix: 'do more', variant: null, line: 3 };
  const lines = [
    { label: 'FW101', text: '', warning: true, finding: 0 },
    { label: 'FW102', text: '', warning: true, finding: 7 },
    { label: 'timed', text: 'once', warning: false, finding: null }
  ];
  const found = readReport(report({ findings: [finding], words: words({ details: [{ name: 'torch', lines }] }) }));
  expect(found.words?.details[0].lines.map(line => line.text)).toEqual([
    'line 3: it does nothing. What to do: do more',
    '',
    'once'
  ]);
});
