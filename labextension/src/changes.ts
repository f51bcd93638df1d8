/** What is different between two reports: conditions, options and figures. */

import { ratio } from './format';
import type { Report, Variant } from './read';
import { figures } from './specs';

export interface Change {
  readonly what: string;
  readonly before: string;
  readonly after: string;
}

/** Return what changed from `before` to `after`; a variant's time only if the two intervals do not meet. */
export function changes(before: Report, after: Report): Change[] {
  const names = [...new Set([...before.variants, ...after.variants].map(v => v.name))];
  return [
    ...names.flatMap(name => [
      ...ofVariant(name, find(before, name), find(after, name)),
      ...ofTime(name, before, after)
    ]),
    ...verdicts(before, after),
    ...(['versions', 'devices', 'threads', 'settings'] as const).flatMap(part =>
      ofMap(before.conditions[part], after.conditions[part], `${part}: `)
    ),
    ...different('machine', before.conditions.machine, after.conditions.machine),
    ...different('inputs', before.conditions.inputs, after.conditions.inputs),
    ...different('budget', before.words?.budget ?? '–', after.words?.budget ?? '–')
  ];
}

function find(report: Report, name: string): Variant | undefined {
  return report.variants.find(v => v.name === name);
}

function ofVariant(name: string, before: Variant | undefined, after: Variant | undefined): Change[] {
  if (before === undefined || after === undefined) {
    return [{ what: name, before: before?.status ?? '–', after: after?.status ?? '–' }];
  }
  return [
    ...different(name, before.status, after.status),
    ...different(`${name} mode`, before.mode, after.mode),
    ...different(`${name} compiled`, before.compilation?.way ?? '–', after.compilation?.way ?? '–'),
    ...ofMap(before.options, after.options, `${name} --`)
  ];
}

/** Return what changed of a time, worded as in the tables behind the charts; only the ratio of the two is new. */
function ofTime(name: string, before: Report, after: Report): Change[] {
  const [old, now] = [find(before, name)?.time, find(after, name)?.time];
  if (!old || !now || old.median === 0) {
    return [];
  }
  const meet = (old.low ?? 0) <= (now.high ?? Infinity) && (now.low ?? 0) <= (old.high ?? Infinity);
  const factor = `${median(after, name)} (ratio ${ratio(now.median / old.median)})`;
  return meet ? [] : [{ what: `${name} per call`, before: median(before, name), after: factor }];
}

function median(report: Report, name: string): string {
  const place = report.variants.findIndex(v => v.name === name);
  return figures('times', report, place).at(0)?.at(0) ?? '–';
}

function verdicts(before: Report, after: Report): Change[] {
  return after.ratios.flatMap(r => {
    const old = before.ratios.find(other => other.variant === r.variant && other.over === r.over);
    return old === undefined ? [] : different(`${r.variant} over ${r.over}`, old.verdict, r.verdict);
  });
}

function ofMap(before: Record<string, string>, after: Record<string, string>, prefix = ''): Change[] {
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return keys.flatMap(key => different(prefix + key, before[key] ?? '–', after[key] ?? '–'));
}

function different(what: string, before: string, after: string): Change[] {
  return before === after ? [] : [{ what, before, after }];
}
