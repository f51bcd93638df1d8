/** The charts of one report, or of two on the same scales: the package's Vega-Lite specs with the report's rows in them. */

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
/** The width in pixels of a column of a legend, and the one from which all of it stands in one row. */
const LEGEND = 140;
const WIDE = 3 * LEGEND;
const MARKS = ['①', '②'];

type Row<T> = T & { readonly label: string };

/** Return the charts that the reports (one, or two side by side) have figures for, in the order of the package. */
export function charts(reports: readonly Report[]): Chart[] {
  const variants = reports.flatMap((report, i) => report.variants.map(v => labelled(v, v.name, reports, i)));
  const pairs = reports.flatMap((report, i) => overBaseline(report).map(r => labelled(r, r.variant, reports, i)));
  return Object.entries(files)
    .map(([name, spec]) => ({
      name,
      title: spec.usermeta.title,
      spec: { ...spec, datasets: { variants, ratios: pairs } },
      table: { head: spec.usermeta.table, rows: reports.flatMap((_, i) => rows(name, reports, i)) }
    }))
    .filter(({ table }) => table.rows.length > 0);
}

/** Return the spec as it is drawn into `width` pixels: however long the names are, most of it is for the figures. */
export function sized(spec: Spec, width: number): Spec {
  const { datasets, ...drawing } = spec;
  const labelLimit = Math.max(60, Math.round(width / 4));
  const fitted = JSON.parse(JSON.stringify(drawing), (key, value: unknown) =>
    key === 'labelLimit' ? labelLimit : value
  ) as Spec;
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

/** Return the ratios to the baseline, each with the colour of its variant. */
function overBaseline(report: Report): (Ratio & Pick<Variant, 'colour'>)[] {
  const colours = new Map(report.variants.map(v => [v.name, v.colour]));
  return report.ratios
    .filter(r => report.baseline === null || r.over === report.baseline)
    .map(r => ({ ...r, colour: colours.get(r.variant) ?? '' }));
}

/** Return what a chart shows of a variant, as its report words it: rows without the variant's name. */
export function figures(name: string, report: Report, variant: number): string[][] {
  const words: string[][][] = report.words?.charts[name] ?? [];
  return words.at(variant) ?? [];
}

/** Return the rows of a chart's table for one of the reports. */
function rows(name: string, reports: readonly Report[], i: number): string[][] {
  return reports[i].variants.flatMap((variant, j) => {
    const sources = SOURCES[name]?.(variant).map(source => [source]);
    return figures(name, reports[i], j).map((row, k) => [
      label(variant.name, reports, i),
      ...row,
      ...(sources?.at(k) ?? [])
    ]);
  });
}

function labelled<T>(row: T, name: string, reports: readonly Report[], i: number): Row<T> {
  return { ...row, label: label(name, reports, i) };
}

function label(name: string, reports: readonly Report[], i: number): string {
  return reports.length > 1 ? `${MARKS[i]} ${name}` : name;
}
