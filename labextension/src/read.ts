/** A stored value as a report, or why it is none: nothing that a notebook holds makes this throw. */

import type { Lines } from './generated/lines';
import type { Report } from './generated/report';
import validateLines from './generated/validateLines';
import validateReport from './generated/validateReport';
import { limited } from './limits';

export const VERSION = 1;
export const MIME = `application/vnd.fwmagic.report.v${VERSION}+json`;
export const LINES_MIME = `application/vnd.fwmagic.lines.v${VERSION}+json`;
/** Any version of the formats, also one that is newer than this panel. */
export const ANY_VERSION = /^application\/vnd\.fwmagic\.(report|lines)\.v(\d+)\+json$/;

export type { Lines, Report };
/** What a run left: the report of what was measured, or its cell line by line. */
export type Told = Report | Lines;
export type Variant = Report['variants'][number];
export type Ratio = Report['ratios'][number];
export type Words = NonNullable<Report['words']>;

export type Read =
  | { readonly kind: 'report'; readonly report: Told }
  | { readonly kind: 'newer'; readonly version: number }
  | { readonly kind: 'invalid'; readonly why: string };

const reads = new WeakMap<object, Read>();
const origins = new WeakMap<Told, { readonly value: object; readonly left: readonly string[] }>();

export function isLines(told: Told): told is Lines {
  return 'visits' in told;
}

export function isReport(told: Told): told is Report {
  return !isLines(told);
}

/** Return what is left out of a report that was read, as `940 of 1000 variants`; empty where all of it is there. */
export function leftOut(told: Told): readonly string[] {
  return origins.get(told)?.left ?? [];
}

/** Return the value that a report was read of: all that is stored of it. */
export function whole(told: Told): object {
  return origins.get(told)?.value ?? told;
}

/** Return what `value`, the data of one of our MIME types, is. */
export function read(value: unknown, mime: string = MIME): Read {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { kind: 'invalid', why: 'it is no JSON object' };
  }
  const known = reads.get(value) ?? readObject(value, ANY_VERSION.exec(mime)?.[1] === 'lines');
  reads.set(value, known);
  return known;
}

function readObject(value: { version?: unknown }, ofLines: boolean): Read {
  if (typeof value.version === 'number' && value.version > VERSION) {
    return { kind: 'newer', version: value.version };
  }
  // A copy, of what is huge only a part: the validator goes through it, and puts the defaults in that are left out.
  const { value: filled, left } = limited(value);
  const validate = ofLines ? validateLines : validateReport;
  if (validate(filled)) {
    if (!isLines(filled)) {
      tellFindings(filled);
      rank(filled);
    }
    origins.set(filled, { value, left });
    return { kind: 'report', report: filled };
  }
  const error = validate.errors?.at(0);
  return { kind: 'invalid', why: `${error?.instancePath ?? ''} ${error?.message ?? ''}`.trim() };
}

/** Put the quickest variant first when all are done, with their words: as the output of a cell. */
function rank(report: Report): void {
  if (report.state === 'running') {
    return;
  }
  const times = report.variants.map(v => v.time?.median ?? Infinity);
  const order = [...times.keys()].sort((a, b) => (times[a] === times[b] ? a - b : times[a] - times[b]));
  const ranked = <T>(all: readonly T[]): T[] => order.flatMap(i => all.slice(i, i + 1));
  report.variants = ranked(report.variants);
  if (report.words !== undefined) {
    report.words.figures.rows = ranked(report.words.figures.rows);
    for (const [chart, rows] of Object.entries(report.words.charts)) {
      report.words.charts[chart] = ranked(rows);
    }
  }
}

/** Put the words of the findings into the remarks that tell them: a notebook stores them once. */
function tellFindings(report: Report): void {
  for (const line of report.words?.details.flatMap(group => group.lines) ?? []) {
    const told = line.finding === null ? undefined : report.findings.at(line.finding);
    if (told !== undefined && line.text === '') {
      const where = told.line === null ? '' : `line ${told.line}: `;
      line.text = `${where}${told.sentence.replace(/\.+$/, '')}. What to do: ${told.fix}`;
    }
  }
}
