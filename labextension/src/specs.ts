/** The charts of one report, or of two on the same scales: the package's Vega-Lite specs with the report's rows in them. */

import ledgers from './generated/charts/memory.json';
import ratios from './generated/charts/ratios.json';
import stages from './generated/charts/stages.json';
import timeline from './generated/charts/timeline.json';
import times from './generated/charts/times.json';
import { ratio, seconds, size } from './format';
import type { Ratio, Report, Variant } from './read';

export type ChartName = 'times' | 'ratios' | 'stages' | 'memory' | 'timeline';

/** What Vega-Lite draws; its own type is not needed here. */
export type Spec = Record<string, unknown>;

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface Chart {
  readonly name: ChartName;
  readonly spec: Spec;
  /** The same figures for who cannot see the chart. */
  readonly table: Table;
}

const FILES: Record<ChartName, Spec> = { times, ratios, stages, memory: ledgers, timeline };
/** The width in pixels of a column of a legend, and the one from which all of it stands in one row. */
const LEGEND = 140;
const WIDE = 3 * LEGEND;
const MARKS = ['①', '②'];

type Row<T> = T & { readonly label: string };

/** Return the charts that the reports (one, or two side by side) have figures for. */
export function charts(reports: readonly Report[]): Chart[] {
  const variants = reports.flatMap((report, i) => report.variants.map(v => labelled(v, v.name, reports, i)));
  const pairs = reports.flatMap((report, i) => overBaseline(report).map(r => labelled(r, r.variant, reports, i)));
  const tables: Record<ChartName, Table> = {
    times: timesTable(variants),
    ratios: ratiosTable(pairs),
    stages: stagesTable(variants),
    memory: memoryTable(variants),
    timeline: timelineTable(variants)
  };
  return (Object.keys(tables) as ChartName[])
    .filter(name => tables[name].rows.length > 0)
    .map(name => ({ name, spec: { ...FILES[name], datasets: { variants, ratios: pairs } }, table: tables[name] }));
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
    .map(r => ({ ...r, colour: colours.get(r.variant) }));
}

function labelled<T>(row: T, name: string, reports: readonly Report[], i: number): Row<T> {
  return { ...row, label: reports.length > 1 ? `${MARKS[i]} ${name}` : name };
}

function interval(low: number | null, high: number | null, words: (value: number) => string): string {
  return low === null || high === null ? '–' : `${words(low)} – ${words(high)}`;
}

function timesTable(variants: readonly Row<Variant>[]): Table {
  const rows = variants.flatMap(({ label, time }) =>
    time === null || time.samples.length === 0
      ? []
      : [[label, seconds(time.median), interval(time.low, time.high, seconds), String(time.samples.length)]]
  );
  return { head: ['variant', 'median per call', '95 % interval', 'samples'], rows };
}

function ratiosTable(pairs: readonly Row<Ratio>[]): Table {
  const rows = pairs.map(r => [r.label, r.over, ratio(r.median), interval(r.low, r.high, ratio), r.verdict]);
  return { head: ['variant', 'over', 'ratio', '95 % interval', 'verdict'], rows };
}

function stagesTable(variants: readonly Row<Variant>[]): Table {
  const rows = variants.flatMap(({ label, compilation }) =>
    (compilation?.stages ?? [])
      .filter(stage => stage.name !== 'prime' && stage.seconds !== null)
      .map(stage => [label, stage.name, seconds(stage.seconds ?? 0)])
  );
  return { head: ['variant', 'stage', 'time'], rows };
}

function memoryTable(variants: readonly Row<Variant>[]): Table {
  const rows = variants.flatMap(({ label, memory }) =>
    memory.flatMap(ledger =>
      ledger.peak.map(a => [label, ledger.device, a.name, a.bytes === null ? 'not available' : size(a.bytes), a.source])
    )
  );
  return { head: ['variant', 'device', 'part', 'size at the peak', 'source'], rows };
}

function timelineTable(variants: readonly Row<Variant>[]): Table {
  const most = (values: readonly (number | null)[]): string => {
    const known = values.filter(value => value !== null);
    return known.length === 0 ? '–' : size(Math.max(...known));
  };
  const rows = variants.flatMap(({ label, memory }) =>
    memory
      .filter(({ timeline }) => timeline.seconds.length > 0)
      .map(({ device, timeline, source }) => [
        label,
        device,
        most(timeline.in_use),
        most(timeline.held),
        String(timeline.seconds.length),
        source
      ])
  );
  return { head: ['variant', 'device', 'most in use', 'most held', 'moments', 'source'], rows };
}
