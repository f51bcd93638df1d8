/** The charts of one report, or of two on the same scales: the package's Vega-Lite specs with the report's rows in them. */

import { DIFFER, incomparable, turned } from './baseline';
import files from './generated/charts';
import type { Ratio, Report, Variant } from './read';

/** What Vega-Lite draws; its own type is not needed here. */
export type Spec = Record<string, unknown>;

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface Chart {
  readonly name: string;
  readonly title: string;
  readonly spec: Spec;
  /** The same figures for who cannot see the chart. */
  readonly table: Table;
}

/** Where the figures of a chart are from, which its words leave out because the report has it already. */
const SOURCES: Partial<Record<string, (variant: Variant) => string[]>> = {
  memory: ({ memory }) => memory.flatMap(ledger => ledger.peak.map(amount => amount.why || amount.source)),
  timeline: ({ memory }) => memory.filter(({ timeline }) => timeline.seconds.length > 0).map(({ source }) => source)
};
/** What is to be known of a chart as a whole, beside its title. */
const BESIDE: Partial<Record<string, (reports: readonly Report[]) => string>> = {
  times: axis,
  ratios: reports => (reports.some(report => overBaseline(report).some(r => r.void)) ? `, ✕ ${DIFFER}` : ''),
  stages: cached,
  memory: order
};
/** The width in pixels of a column of a legend, and the one from which all of it stands in one row. */
const LEGEND = 110;
const WIDE = 4 * LEGEND;
const MARKS = ['①', '②'];
const GREY = '#707070';
/** The height of a row: of two variants, times and memory together are to take 320 pixels at most. */
const STEP = 26;

/** So many devices of a variant are drawn: no machine has more, and a stored report may say so. Its table has them. */
const LEDGERS = 20;

type Row<T> = T & { readonly label: string };

/** Return the charts that the reports (one, or two side by side) have figures for, in the order of the package. */
export function charts(reports: readonly Report[]): Chart[] {
  const shown = scale(reports);
  const variants = byVariant(
    reports,
    (report, i) =>
      report.variants.map(v => ({
        ...labelled(v, v.name, reports, i),
        memory: v.memory.slice(0, LEDGERS),
        shown,
        void: incomparable(report).has(v.name)
      })),
    'name'
  );
  const pairs = byVariant(
    reports,
    (report, i) => overBaseline(report).map(r => labelled(r, r.variant, reports, i)),
    'variant'
  );
  return Object.entries(files)
    .map(([name, spec]) => ({
      name,
      title: spec.usermeta.title + (BESIDE[name]?.(reports) ?? ''),
      spec: { ...spec, datasets: { variants, ratios: pairs } },
      table: {
        head: spec.usermeta.table,
        rows: byVariant(reports, (_, i) => rows(name, reports, i), 'name').map(({ row }) => row)
      }
    }))
    .filter(({ table }) => table.rows.length > 0);
}

/**
 * Return the spec as it is drawn into `width` pixels, below its heading and low: however long the names are, most of
 * it is for the figures. What is grey on any ground is drawn in the colour of text, `ink`.
 */
export function sized(spec: Spec, width: number, ink = GREY): Spec {
  const { datasets, ...drawing } = spec;
  const labelLimit = Math.max(72, Math.round(width / 4));
  const fitted = JSON.parse(JSON.stringify(drawing), (key, value: unknown) => {
    if (key === 'x' || key === 'y') {
      return typeof value === 'object' ? { ...value, title: null } : value; // the heading of the chart has it
    }
    return key === 'labelLimit' ? labelLimit : key === 'step' ? STEP : value === GREY ? ink : value;
  }) as Spec;
  return {
    ...fitted,
    datasets,
    width,
    autosize: { type: 'fit-x', contains: 'padding' },
    background: 'transparent',
    config: {
      // The grid is the same in both themes, and fainter than the marks. In a narrow panel, every second label goes
      // before they touch.
      axis: { gridColor: '#8C8C8C', gridOpacity: 0.3, labelSeparation: 6 },
      legend: { columns: width < WIDE ? Math.max(1, Math.floor(width / LEGEND)) : 0 },
      view: { stroke: null }
    }
  };
}

/** Return the items of all reports, so that those of one variant stand beside each other. */
function byVariant<K extends string, T extends Record<K, string>>(
  reports: readonly Report[],
  of: (report: Report, i: number) => T[],
  key: K
): T[] {
  const places = new Map([...new Set(reports.flatMap(r => r.variants.map(v => v.name)))].map((name, i) => [name, i]));
  const place = (item: T): number => places.get(item[key]) ?? places.size;
  return reports.flatMap(of).sort((a, b) => place(a) - place(b));
}

/** Return where the axis of all times begins and ends, as the reports say it: of two, both are to be seen on it. */
function scale(reports: readonly Report[]): number[] | undefined {
  const all = reports.map(report => report.words?.scale ?? []).filter(({ length }) => length === 2);
  const [low, high] = [Math.min(...all.map(one => one[0])), Math.max(...all.map(one => one[1]))];
  return all.length > 1 ? [low > 0.45 * high ? low : 0, high] : all.at(0);
}

/**
 * Return what is to be known of the axis of all times: how many dots are beyond it, and whether it begins at 0. While a
 * run goes on, nothing: it would come and go, and move what is below.
 */
function axis(reports: readonly Report[]): string {
  if (reports.some(report => report.state === 'running')) {
    return '';
  }
  const [low, high] = scale(reports) ?? [0, Infinity];
  const beyond = reports.flatMap(r => r.variants.flatMap(v => v.time?.samples ?? [])).filter(s => s > high).length;
  return [
    ...(beyond > 0 ? [`, ▸ ${beyond} slower dot${beyond > 1 ? 's' : ''}`] : []),
    ...(low > 0 ? [', axis not from 0'] : [])
  ].join('');
}

/** Return what a thin bar means, if there is one: what a cache on disk took is no time of compiling. */
function cached(reports: readonly Report[]): string {
  const some = reports.some(r => r.variants.some(v => v.compilation?.cache === 'disk-warm'));
  return some ? ', thin: from the disk cache' : '';
}

/** Return whether it is known which variant needs more memory, as the table of figures says it. */
function order(reports: readonly Report[]): string {
  const heads = reports.flatMap(r => r.words?.figures.head ?? []);
  return heads.find(head => head.startsWith('memory ('))?.slice('memory'.length) ?? '';
}

/** Return the ratios to the baseline, each with the colour of its variant. */
function overBaseline(report: Report): (Ratio & Pick<Variant, 'colour'> & { void: boolean })[] {
  const other = incomparable(report);
  const colours = new Map(report.variants.map(v => [v.name, v.colour]));
  return report.ratios
    .map(r => (r.variant === report.baseline ? turned(r) : r))
    .filter(r => report.baseline === null || r.over === report.baseline)
    .map(r => ({ ...r, colour: colours.get(r.variant) ?? '', void: other.has(r.variant) }));
}

/** Return what a chart shows of a variant, as its report words it: rows without the variant's name. */
export function figures(name: string, report: Report, variant: number): string[][] {
  const words: string[][][] = report.words?.charts[name] ?? [];
  return variant < 0 ? [] : (words.at(variant) ?? []);
}

/** Return why a report shows no memory, as its words say it: how little it was, or that nobody looked. */
export function memoryLeftOut({ words }: Report): string {
  const left = words?.conditions.find(({ label }) => label === 'left out')?.text ?? '';
  return /memory: [^;]*/.exec(left)?.[0] ?? '';
}

/** Return the rows of a chart's table for one of the reports. */
function rows(name: string, reports: readonly Report[], i: number): { name: string; row: string[] }[] {
  return reports[i].variants.flatMap((variant, j) => {
    const sources = SOURCES[name]?.(variant).map(source => [source]);
    return figures(name, reports[i], j).map((row, k) => ({
      name: variant.name,
      row: [label(variant.name, reports, i), ...row, ...(sources?.at(k) ?? [])]
    }));
  });
}

function labelled<T>(row: T, name: string, reports: readonly Report[], i: number): Row<T> {
  return { ...row, label: label(name, reports, i) };
}

function label(name: string, reports: readonly Report[], i: number): string {
  return reports.length > 1 ? `${MARKS[i]} ${name}` : name;
}
