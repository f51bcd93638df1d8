import { describe, expect, it } from 'vitest';

import { chosen, keep, listed, makesWay, merged, MOST_KEPT, unshown } from '../src/runs';
import { report } from './reports';

const at = (run_id: string, minute: number) => report({ run_id, started: `2026-11-22T10:${minute}:00+00:00` });
const stored = (run_id: string, minute: number) => ({ report: at(run_id, minute), unfinished: false, stored: true });

describe('runs', () => {
  it('come newest first, each once, as it was last seen', () => {
    const runs = merged([stored('b', 20), stored('c', 30)], [at('a', 10), at('b', 20)]);
    expect(runs.map(run => [run.report.run_id, run.stored])).toEqual([
      ['c', true],
      ['b', true],
      ['a', false]
    ]);
  });

  it('that were kept while running did not finish', () => {
    expect(merged([], [report({ state: 'running' })])[0].unfinished).toBe(true);
  });

  it('that began at one moment come with the later one first', () => {
    const ids = (...runs: ReturnType<typeof merged>) => merged(runs, []).map(run => run.report.run_id);
    expect(ids(stored('a', 10), stored('b', 10), stored('c', 10))).toEqual(['c', 'b', 'a']);
    const rerun = { ...stored('a', 10), report: { ...at('a', 10), execution_count: 7 } };
    expect(ids(rerun, stored('b', 10))).toEqual(['a', 'b']);
  });

  it('with a start that is no date come last', () => {
    expect(merged([stored('b', 20)], [report({ run_id: 'a', started: 'x' })]).at(-1)?.report.run_id).toBe('a');
  });

  it('are kept up to a number, the latest last, each once', () => {
    let kept: ReturnType<typeof report>[] = [];
    for (let i = 10; i < 35; i++) {
      kept = keep(kept, at(String(i), i));
    }
    expect(kept.map(one => one.run_id)).toEqual(Array.from({ length: MOST_KEPT }, (_, i) => String(i + 15)));
    expect(
      keep(kept, at('20', 59))
        .map(one => one.run_id)
        .at(-1)
    ).toBe('20');
  });

  it('that are pinned are kept however many come', () => {
    let kept = [at('pinned', 9)];
    for (let i = 10; i < 35; i++) {
      kept = keep(kept, at(String(i), i), ['pinned']);
    }
    expect(kept.length).toBe(MOST_KEPT + 1);
    expect(kept[0].run_id).toBe('pinned');
  });

  it('are listed with the pinned ones in front, and by words', () => {
    const runs = merged([stored('ab', 10), stored('bc', 20), stored('cd', 30)], []);
    const ids = (pins: string[], wanted: string) =>
      listed(runs, pins, wanted, run => `Run ${run.report.run_id}`).map(run => run.report.run_id);
    expect(ids([], '')).toEqual(['cd', 'bc', 'ab']);
    expect(ids(['ab', 'gone'], '')).toEqual(['ab', 'cd', 'bc']);
    expect(ids(['ab'], ' C run ')).toEqual(['cd', 'bc']);
    expect(ids([], 'b d')).toEqual([]);
  });

  it('of the selected cell is offered where none of it is shown', () => {
    const runs = merged([stored('a', 10), stored('b', 20)], [at('c', 30)]);
    const cells = new Map([
      ['a', 4],
      ['b', 7]
    ]);
    const cell = (run: (typeof runs)[0]) => cells.get(run.report.run_id);
    const other = (shown: string[], active: number) => unshown(runs, chosen(runs, shown), cell, active)?.report.run_id;
    expect(other(['b'], 4)).toBe('a');
    expect(other(['a', 'b'], 4)).toBeUndefined();
    expect(other(['a'], 4)).toBeUndefined();
    expect(other(['b'], 0)).toBeUndefined();
    expect(other(['c'], 7)).toBe('b');
  });

  it('give way to that of the selected cell, but for two and a pinned one', () => {
    const [one, two] = [stored('a', 10), stored('b', 20)];
    expect(makesWay([one], [])).toBe(true);
    expect(makesWay([one], ['b'])).toBe(true);
    expect(makesWay([one], ['a'])).toBe(false);
    expect(makesWay([one, two], [])).toBe(false);
    expect(makesWay([], [])).toBe(true);
  });

  it('that are chosen are at most two, the earlier one first; else the newest', () => {
    const runs = merged([stored('a', 10), stored('b', 20), stored('c', 30)], []);
    const ids = (wanted: string[]) => chosen(runs, wanted).map(run => run.report.run_id);
    expect(ids([])).toEqual(['c']);
    expect(ids(['gone'])).toEqual(['c']);
    expect(ids(['c', 'a', 'b'])).toEqual(['a', 'c']);
  });
});
