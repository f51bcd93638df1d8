/** What is different between two reports: code, times, memory, conditions and options. */

import { diff } from './diff';
import { between, ratio } from './format';
import type { Report, Variant } from './read';
import { figures, memoryLeftOut } from './specs';

export interface Change {
  readonly what: string;
  readonly before: string;
  readonly after: string;
}

export interface Changes {
  /** All of it in one sentence: which variants are faster or slower for sure, and how much else is not the same. */
  readonly answer: string;
  /** The time of each variant that both have, with the ratio of the two: changed or not. */
  readonly times: readonly Change[];
  /** Whatever else is not the same. */
  readonly others: readonly Change[];
  /** The lines of the cell that changed, each with its sign. */
  readonly code: readonly string[];
}

/** So many variants without a sure change are named. */
const FEW = 3;
/** An interval whose far end is so many times as far from 1 as its near end tells no size: as in `answer.py`. */
const WIDE = 2.5;

/** Return what changed from `before` to `after`. */
export function changes(before: Report, after: Report): Changes {
  const names = [...new Set([...before.variants, ...after.variants].map(v => v.name))];
  const code = diff(before.cell, after.cell);
  const others = [
    ...once(names, name => [...ofVariant(name, before, after), ...ofMemory(name, before, after)]),
    ...verdicts(before, after),
    ...(['versions', 'devices', 'threads', 'settings'] as const).flatMap(part =>
      ofMap(before.conditions[part], after.conditions[part], `${part}: `, ['not there', 'not there'])
    ),
    ...(['machine', 'inputs'] as const).flatMap(part =>
      different(part, before.conditions[part] || 'not told', after.conditions[part] || 'not told')
    ),
    ...different('budget', before.words?.budget ?? 'not told', after.words?.budget ?? 'not told')
  ].filter(({ what }) => !isInCode(what, code));
  return {
    answer: answer(names, before, after, others.length, edits(code)),
    times: names.flatMap(name => ofTime(name, before, after)),
    others,
    code
  };
}

function answer(names: readonly string[], before: Report, after: Report, others: number, lines: number): string {
  const ratios = names.flatMap(name => {
    const found = ratioOf(name, before, after);
    return found === undefined ? [] : [{ name, ...found }];
  });
  const sure = ratios.flatMap(({ name, median, low, high }) =>
    low !== undefined && (low > 1 || high < 1) ? [{ name, median, low, high }] : []
  );
  const times = sure.map(({ name, median, low, high }) =>
    median < 1 ? moved(name, 'faster', 1 / median, 1 / high, 1 / low) : moved(name, 'slower', median, low, high)
  );
  const rest = ratios.filter(({ name }) => !sure.some(one => one.name === name));
  if (rest.length > 0) {
    const named = rest.map(({ name, low, high }) =>
      low === undefined ? name : `${name} (${between(low, high)} of its time)`
    );
    times.push(`no sure change of ${rest.length <= FEW ? named.join(', ') : `${rest.length} variants`}`);
  }
  const besides = [
    ...(lines > 0 ? [`${lines} changed ${lines === 1 ? 'line' : 'lines'} of code`] : []),
    ...(others > 0 ? [`${others} other ${others === 1 ? 'difference' : 'differences'}`] : [])
  ];
  const same = 'same code, variants and conditions';
  return [...times, besides.length > 0 ? besides.join(' and ') : same].join('; ');
}

/** Return what is sure of a time: its factor, or of a wide interval the two ends alone. */
function moved(name: string, how: string, factor: number, low: number, high: number): string {
  const span = `${between(low, high)}x`;
  return high - 1 > WIDE * (low - 1)
    ? `${name} is ${span} ${how} than in ①`
    : `${name} is ${ratio(factor)}x ${how} than in ① (${span})`;
}

/** Return the changes of all variants: the same of several is one change, of all of them without their names. */
function once(names: readonly string[], of: (name: string) => Change[]): Change[] {
  const whose = new Map<string, { change: Change; names: string[] }>();
  for (const name of names) {
    for (const change of of(name)) {
      const key = JSON.stringify(change);
      const same = whose.get(key) ?? { change, names: [] };
      whose.set(key, { change, names: [...same.names, name] });
    }
  }
  return [...whose.values()].map(({ change, names: some }) => {
    const all = names.length > 1 && some.length === names.length;
    const who = all && change.what === '' ? 'all variants' : all ? '' : some.join(', ');
    return { ...change, what: `${who} ${change.what}`.trim() };
  });
}

/** Say whether a change is that of an option which stands in one of the changed lines. */
function isInCode(what: string, code: readonly string[]): boolean {
  const option = what === 'budget' ? '--budget' : /(?:^| )(--[\w-]+)$/.exec(what)?.[1];
  return option !== undefined && code.some(line => /^[-+] /.test(line) && line.split(/[\s=]/).includes(option));
}

/** Return how many lines were edited: one that goes and one that comes in its place are one edit. */
function edits(code: readonly string[]): number {
  const runs = code
    .map(line => (/^[-+] /.test(line) ? line[0] : ' '))
    .join('')
    .split(' ');
  return runs.map(run => Math.max(...['-', '+'].map(sign => run.split(sign).length - 1))).reduce((a, b) => a + b, 0);
}

function find(report: Report, name: string): Variant | undefined {
  return report.variants.find(v => v.name === name);
}

function ofVariant(name: string, before: Report, after: Report): Change[] {
  const [old, now] = [find(before, name), find(after, name)];
  if (old === undefined || now === undefined) {
    return [{ what: '', before: old?.status ?? 'not there', after: now?.status ?? 'not there' }];
  }
  return [
    ...different('', old.status, now.status),
    ...different('compiled', compiled(name, before), compiled(name, after)),
    ...ofMap(asked(old), asked(now), '--', ['not given', 'not given'])
  ];
}

/** Return the options of a variant, but for the name of its report: the list has it. */
function asked({ options }: Variant): Record<string, string> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name !== 'output'));
}

/** Return the ratio of the times of a variant, with an interval that holds it whatever the two true times are. */
function ratioOf(name: string, before: Report, after: Report) {
  const [old, now] = [find(before, name)?.time, find(after, name)?.time];
  if (!old || !now || old.median === 0) {
    return undefined;
  }
  const median = now.median / old.median;
  return old.low && old.high && now.low !== null && now.high !== null
    ? { median, low: now.low / old.high, high: now.high / old.low }
    : { median };
}

/** Return both times, worded as in the tables behind the charts; only their ratio is new, and its interval. */
function ofTime(name: string, before: Report, after: Report): Change[] {
  const found = ratioOf(name, before, after);
  if (found === undefined) {
    return [];
  }
  const span = found.low === undefined ? '' : `, ${between(found.low, found.high)}`;
  const factor = `(ratio ${ratio(found.median)}${span})`;
  return [{ what: `${name} per call`, before: time(name, before), after: `${time(name, after)} ${factor}` }];
}

/** Return how a variant was compiled, as the table of its report words it. */
function compiled(name: string, report: Report): string {
  const { head, rows } = report.words?.figures ?? { head: [], rows: [] };
  return rows.find(([first]) => first === name)?.[head.indexOf('compiled')] ?? 'not told';
}

function row(chart: string, name: string, report: Report): string[][] {
  return figures(
    chart,
    report,
    report.variants.findIndex(v => v.name === name)
  );
}

function time(name: string, report: Report): string {
  const [median, span] = row('times', name, report).at(0) ?? ['not told'];
  return span ? `${median} (${span})` : median;
}

/** Return what a variant had in use at the peak, by its device. */
function memory(name: string, report: Report): Record<string, string> {
  const used = row('memory', name, report).filter(([, part]) => part.startsWith('in use'));
  return Object.fromEntries(used.map(([device, , size]) => [device, size]));
}

/** Return what changed of the memory in use; of a run that shows none, why: it was little, or not measured. */
function ofMemory(name: string, before: Report, after: Report): Change[] {
  if (find(before, name) === undefined || find(after, name) === undefined) {
    return [];
  }
  const why = [before, after].map(report => memoryLeftOut(report).replace('memory: ', '') || 'not measured');
  return ofMap(memory(name, before), memory(name, after), 'memory, ', why);
}

function verdicts(before: Report, after: Report): Change[] {
  return after.ratios.flatMap(r => {
    const old = before.ratios.find(other => other.variant === r.variant && other.over === r.over);
    return old === undefined ? [] : different(`${r.variant} over ${r.over}`, old.verdict, r.verdict);
  });
}

/** Return what is different in two maps; `missing` stands for what one of them has not. */
function ofMap(
  before: Record<string, string>,
  after: Record<string, string>,
  prefix: string,
  missing: readonly string[]
): Change[] {
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return keys.flatMap(key => different(prefix + key, before[key] ?? missing[0], after[key] ?? missing[1]));
}

function different(what: string, before: string, after: string): Change[] {
  return before === after ? [] : [{ what, before, after }];
}
