import { describe, expect, it } from 'vitest';

import { ANY_VERSION, MIME, read } from '../src/read';
import { report, variant } from './reports';

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
    const found = read({ ...value, variants: [{ ...variant('torch'), memory: undefined, note: undefined }] });
    expect(found.kind === 'report' && found.report.ratios).toEqual([]);
    expect(found.kind === 'report' && found.report.conditions.versions).toEqual({});
    expect(found.kind === 'report' && found.report.variants[0]).toEqual(variant('torch'));
    expect(found.kind === 'report' && found.report.words?.conditions[0].warning).toBe(false);
    expect('ratios' in value).toBe(false);
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

  it('knows its MIME type, of any version', () => {
    expect(ANY_VERSION.test(MIME)).toBe(true);
    expect(ANY_VERSION.test('application/vnd.fwmagic.report.v12+json')).toBe(true);
    expect(ANY_VERSION.test('application/json')).toBe(false);
  });
});
