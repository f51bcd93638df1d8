/** A stored value as a report, or why it is none: nothing that a notebook holds makes this throw. */

import type { Report } from './generated/report';
import validate from './generated/validate';

export const VERSION = 1;
export const MIME = `application/vnd.fwmagic.report.v${VERSION}+json`;
/** Any version of the format, also one that is newer than this panel. */
export const ANY_VERSION = /^application\/vnd\.fwmagic\.report\.v(\d+)\+json$/;

export type { Report };
export type Variant = Report['variants'][number];
export type Ratio = Report['ratios'][number];
export type Words = NonNullable<Report['words']>;

export type Read =
  | { readonly kind: 'report'; readonly report: Report }
  | { readonly kind: 'newer'; readonly version: number }
  | { readonly kind: 'invalid'; readonly why: string };

const reads = new WeakMap<object, Read>();

/** Return what `value`, the data of our MIME type, is. */
export function read(value: unknown): Read {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { kind: 'invalid', why: 'it is no JSON object' };
  }
  const known = reads.get(value) ?? readObject(value);
  reads.set(value, known);
  return known;
}

function readObject(value: { version?: unknown }): Read {
  if (typeof value.version === 'number' && value.version > VERSION) {
    return { kind: 'newer', version: value.version };
  }
  // A copy, into which the validator puts the defaults that a stored report leaves out.
  const filled: unknown = structuredClone(value);
  if (validate(filled)) {
    return { kind: 'report', report: filled };
  }
  const error = validate.errors?.at(0);
  return { kind: 'invalid', why: `${error?.instancePath ?? ''} ${error?.message ?? ''}`.trim() };
}
