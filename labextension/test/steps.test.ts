import { nullTranslator } from '@jupyterlab/translation';
import { describe, expect, it } from 'vitest';

import { place, seen, where } from '../src/steps';
import { lines } from './reports';

const trans = nullTranslator.load('fwmagic');

describe('seen', () => {
  const { visits } = lines();

  it('has what a line was last in each run, up to a step', () => {
    const told = (at: number) => {
      const found = seen(visits, at).get(place(1, 7));
      return [found?.traced?.told, found?.run?.told];
    };
    expect(told(0)).toEqual([['→ float32[] tracer'], undefined]);
    expect(told(2)).toEqual([['→ float32[] tracer'], ['→ float32[] 0']]);
    expect(told(3)).toEqual([['→ float32[] tracer'], ['→ float32[] 1']]);
  });

  it('has nothing of lines that did not run yet', () => {
    expect(seen(visits, 1).has(place(0, 2))).toBe(false);
    expect(seen(visits, 2).get(place(0, 2))?.run?.time).toBe(1);
  });
});

describe('where', () => {
  it('names the step, the run and the line', () => {
    expect(where(lines(), 0, trans)).toBe('Step 1 of 4, while tracing: line 7 of f, time 1');
    expect(where(lines(), 2, trans)).toBe('Step 3 of 4, without a trace: line 2, time 1');
  });

  it('says the same of a line that is in no passage', () => {
    const [visit] = lines().visits;
    expect(where(lines({ passages: [], visits: [visit] }), 0, trans)).toBe(
      'Step 1 of 1, while tracing: line 7, time 1'
    );
  });
});
