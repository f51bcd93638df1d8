/** One report, or two beside each other: the words of the report around the charts. */

import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { changes } from './changes';
import { ChartView, TableView } from './chart';
import type { Report, Words } from './read';
import { charts } from './specs';

export interface Surroundings {
  readonly rendermime: IRenderMimeRegistry;
  readonly trans: TranslationBundle;
  /** The name of the theme: charts are drawn again when it changes. */
  readonly theme: string;
}

/** Show reports; `unfinished` holds the ids of those whose end was not seen. */
export function ReportView(
  props: Surroundings & { reports: readonly Report[]; unfinished?: ReadonlySet<string> }
): React.JSX.Element {
  const { reports, unfinished, ...surroundings } = props;
  const { trans } = surroundings;
  return (
    <div className="fwm-report">
      {reports.map((report, i) => (
        <section key={report.run_id}>
          {reports.length > 1 && <h3>{`${i === 0 ? '①' : '②'} ${title(report, trans)}`}</h3>}
          <Headline report={report} unfinished={unfinished?.has(report.run_id) ?? false} trans={trans} />
        </section>
      ))}
      {reports.length > 1 && <Changes before={reports[0]} after={reports[1]} trans={trans} />}
      {charts(reports).map(chart => (
        <ChartView key={chart.name} chart={chart} {...surroundings} />
      ))}
      {reports.map((report, i) => (
        <section key={report.run_id}>
          {reports.length > 1 && <h3>{i === 0 ? '①' : '②'}</h3>}
          <Details report={report} trans={trans} />
        </section>
      ))}
    </div>
  );
}

/** Return what a run is called in the list: its cell's number and the time of day. */
export function title(report: Report, trans: TranslationBundle): string {
  const number = report.execution_count === null ? '' : `[${report.execution_count}] `;
  const date = new Date(report.started);
  return `${number}${Number.isNaN(date.getTime()) ? trans.__('at an unknown time') : date.toLocaleTimeString()}`;
}

/** Return the answer of a report, in at most 30 characters. */
export function brief(report: Report, trans: TranslationBundle): string {
  return report.words?.brief ?? trans.__('a report without words');
}

function Headline(props: { report: Report; unfinished: boolean; trans: TranslationBundle }): React.JSX.Element {
  const { report, unfinished, trans } = props;
  const running = report.state === 'running' && !unfinished;
  return (
    <div className="fwm-headline">
      {unfinished && (
        <p className="fwm-warning">
          <strong>{trans.__('Unfinished:')}</strong>{' '}
          {trans.__('the kernel ended, or its last message was lost; this is what was seen last. Run the cell again.')}
        </p>
      )}
      {(report.words?.headline ?? [{ text: brief(report, trans), warning: false }]).map((sentence, i) => (
        <p key={i} className={sentence.warning ? 'fwm-warning' : undefined}>
          {sentence.text}
        </p>
      ))}
      {running && (
        <progress max={1} value={report.progress} aria-label={trans.__('Share of the budget used')}>
          {Math.round(100 * report.progress)} %
        </progress>
      )}
    </div>
  );
}

function Changes(props: { before: Report; after: Report; trans: TranslationBundle }): React.JSX.Element {
  const { before, after, trans } = props;
  const found = changes(before, after);
  return (
    <section className="fwm-changes">
      <h3>{trans.__('What changed from ① to ②')}</h3>
      {found.length === 0 ? (
        <p>{trans.__('Nothing: same variants and conditions, and the intervals of their times meet.')}</p>
      ) : (
        <TableView
          head={[trans.__('what'), '①', '②']}
          rows={found.map(change => [change.what, change.before, change.after])}
          label={trans.__('What changed')}
        />
      )}
    </section>
  );
}

function Details(props: { report: Report; trans: TranslationBundle }): React.JSX.Element | null {
  const { trans } = props;
  const words = props.report.words;
  if (words === undefined) {
    return null;
  }
  return (
    <>
      {words.figures.rows.length > 0 && (
        <details>
          <summary>{trans.__('Figures')}</summary>
          <TableView head={words.figures.head} rows={words.figures.rows} label={trans.__('Figures')} />
        </details>
      )}
      {words.details.length > 0 && (
        <details>
          <summary>{trans.__('Remarks')}</summary>
          {words.details.map((group, i) => (
            <div key={i}>
              <h3>{group.name}</h3>
              <Lines lines={group.lines} />
            </div>
          ))}
        </details>
      )}
      <details>
        <summary>{trans.__('Conditions')}</summary>
        <Lines lines={words.conditions} />
      </details>
    </>
  );
}

function Lines(props: { lines: Words['conditions'] }): React.JSX.Element {
  return (
    <dl>
      {props.lines.map((line, i) => (
        <div key={i} className={line.warning ? 'fwm-warning' : undefined}>
          <dt>{line.label}</dt>
          <dd>{line.text}</dd>
        </div>
      ))}
    </dl>
  );
}
