/** One report, or two beside each other: the words of the report around the charts. */

import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { rebased } from './baseline';
import { changes } from './changes';
import { ChartView, TableView } from './chart';
import { clock, cut } from './format';
import { isLines, leftOut, type Report, type Told, type Words } from './read';
import { charts, memoryLeftOut } from './specs';

/** Goes to a line of the cell of a report; undefined where the notebook does not hold it. */
export type GoTo = ((line: number) => void) | undefined;

/** So many kinds of what is left out are named. */
const MOST_LEFT = 5;
/** The longest text in the line that unfolds the remarks: as in the output of a cell. */
const MOST_FIRST = 240;
/** So many remarks are shown. */
const MOST_REMARKS = 300;
/** The longest name of a run in the list. */
const LONGEST_NAME = 60;

export interface Surroundings {
  readonly rendermime: IRenderMimeRegistry;
  readonly trans: TranslationBundle;
  /** The name of the theme: charts are drawn again when it changes. */
  readonly theme: string;
}

/** Show reports; `unfinished` holds the ids of those whose end was not seen, `goTo` leads to the lines of each. */
export function ReportView(
  props: Surroundings & {
    reports: readonly Report[];
    unfinished?: ReadonlySet<string>;
    goTo: (report: Report) => GoTo;
  }
): React.JSX.Element {
  const { unfinished, goTo, ...surroundings } = props;
  const { trans } = surroundings;
  const [baseline, setBaseline] = React.useState('');
  const stored = props.reports;
  const reports = stored.length === 1 ? [rebased(stored[0], baseline)] : stored;
  const left = stored.map(leftOut);
  return (
    <div className="fwm-report">
      {reports.map((report, i) => (
        <section key={report.run_id}>
          {reports.length > 1 && <h3>{`${'①②'[i]} ${whose(report, trans)}`}</h3>}
          <Headline
            report={report}
            unfinished={unfinished?.has(report.run_id) ?? false}
            goTo={goTo(report)}
            trans={trans}
          />
          <Remarks report={report} noted goTo={goTo(report)} trans={trans} />
          {left[i].length > 0 && (
            <p className="fwm-warning">
              {trans.__('Too much to be shown whole. Left out: %1.', left[i].slice(0, MOST_LEFT).join(', '))}
            </p>
          )}
        </section>
      ))}
      {reports.length > 1 && <ChangesView before={reports[0]} after={reports[1]} trans={trans} />}
      {reports.length === 1 && <Baseline report={reports[0]} choose={setBaseline} trans={trans} />}
      {charts(reports).map(chart => (
        <ChartView key={chart.name} chart={chart} {...surroundings} />
      ))}
      {reports.map((report, i) => {
        const without = memoryLeftOut(report);
        return without !== '' && <p key={report.run_id}>{reports.length > 1 ? `${'①②'[i]} ${without}` : without}</p>;
      })}
      {reports.map((report, i) => (
        <section key={report.run_id}>
          {reports.length > 1 && <h3>{i === 0 ? '①' : '②'}</h3>}
          <Details report={report} goTo={goTo(report)} trans={trans} />
        </section>
      ))}
    </div>
  );
}

/** Return when a run was: its cell's number and the time of day. */
export function title(report: Told, trans: TranslationBundle): string {
  const number = report.execution_count === null ? '' : `[${report.execution_count}] `;
  const date = new Date(report.started);
  return `${number}${Number.isNaN(date.getTime()) ? trans.__('at an unknown time') : clock(date)}`;
}

/** Return whose a report is: what its run is called, its cell's number and the time of day. */
export function whose(report: Told, trans: TranslationBundle): string {
  const name = isLines(report) ? report.name : (report.words?.name ?? '');
  return `${cut(name, LONGEST_NAME)} ${title(report, trans)}`.trim();
}

/** Return the answer of a report, in at most 30 characters. */
export function brief(report: Told, trans: TranslationBundle): string {
  const told = isLines(report) ? report.brief : report.words?.brief;
  return told === undefined ? trans.__('a report without words') : cut(told, LONGEST_NAME);
}

/** Return what a run is called in the list: the sign of its answer, and its name. */
export function called(report: Told): string {
  const name = isLines(report) ? report.name : `${report.words?.sign ?? ''} ${report.words?.name ?? ''}`;
  return cut(name.trim(), LONGEST_NAME);
}

function Headline(props: {
  report: Report;
  unfinished: boolean;
  goTo: GoTo;
  trans: TranslationBundle;
}): React.JSX.Element {
  const { report, unfinished, goTo, trans } = props;
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
          <Linked text={sentence.text} goTo={goTo} />
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

/** What all ratios of a report are over: any of its variants, since all pairs are stored. */
function Baseline(props: {
  report: Report;
  choose: (name: string) => void;
  trans: TranslationBundle;
}): React.JSX.Element | null {
  const { report, choose, trans } = props;
  const names = new Set(report.ratios.flatMap(r => [r.variant, r.over]));
  const known = report.variants.filter(v => names.has(v.name));
  if (report.baseline === null || known.length < 2) {
    return null;
  }
  return (
    <label className="fwm-baseline">
      {trans.__('Baseline')}{' '}
      <select
        value={report.baseline}
        onChange={event => {
          choose(event.target.value);
        }}
      >
        {known.map(({ name }, i) => (
          <option key={i} value={name}>
            {cut(name, LONGEST_NAME)}
          </option>
        ))}
      </select>
    </label>
  );
}

function ChangesView(props: { before: Report; after: Report; trans: TranslationBundle }): React.JSX.Element {
  const { before, after, trans } = props;
  const { answer, times, others, code } = changes(before, after);
  const rows = [...times, ...others].map(change => [change.what, change.before, change.after]);
  return (
    <section className="fwm-changes">
      <h3>{trans.__('What changed from ① to ②')}</h3>
      <p>
        <strong>{answer}.</strong>
      </p>
      {rows.length > 0 && (
        <TableView head={[trans.__('what'), '①', '②']} rows={rows} label={trans.__('What changed')} trans={trans} />
      )}
      {code.length > 0 && (
        <pre className="fwm-diff" tabIndex={0} role="group" aria-label={trans.__('Changed lines of the cell')}>
          {code.map((line, i) => (
            <CodeLine key={i} line={line} />
          ))}
        </pre>
      )}
    </section>
  );
}

function CodeLine(props: { line: string }): React.JSX.Element {
  const { line } = props;
  return line.startsWith('- ') ? <del>{line}</del> : line.startsWith('+ ') ? <ins>{line}</ins> : <span>{line}</span>;
}

/** A text in which each `line N` leads to that line of the cell. */
export function Linked(props: { text: string; goTo: GoTo }): React.JSX.Element {
  const { text, goTo } = props;
  if (goTo === undefined) {
    return <>{text}</>;
  }
  return (
    <>
      {text.split(/\b(line [1-9][0-9]{0,5})\b/).map((part, i) =>
        i % 2 === 0 ? (
          part
        ) : (
          <button
            key={i}
            className="fwm-line"
            onClick={() => {
              goTo(Number(part.slice(5)));
            }}
          >
            {part}
          </button>
        )
      )}
    </>
  );
}

function Details(props: { report: Report; goTo: GoTo; trans: TranslationBundle }): React.JSX.Element | null {
  const { goTo, trans } = props;
  const words = props.report.words;
  if (words === undefined) {
    return null;
  }
  return (
    <>
      {words.figures.rows.length > 0 && (
        <details>
          <summary>{trans.__('Figures')}</summary>
          <TableView
            head={words.figures.head}
            rows={words.figures.rows}
            label={trans.__('Figures')}
            sortable
            trans={trans}
          />
        </details>
      )}
      <Remarks report={props.report} noted={false} goTo={goTo} trans={trans} />
      <details>
        <summary>{trans.__('Conditions')}</summary>
        <Lines lines={words.conditions} goTo={undefined} />
      </details>
    </>
  );
}

/** The remarks of a report, if there is one to be noted: such ones stand below the answer, others below the charts. */
function Remarks(props: {
  report: Report;
  noted: boolean;
  goTo: GoTo;
  trans: TranslationBundle;
}): React.JSX.Element | null {
  const { goTo, trans } = props;
  const told = props.report.words?.details ?? [];
  const warnings = told.flatMap(group => group.lines).filter(line => line.warning);
  if (told.length === 0 || warnings.length > 0 !== props.noted) {
    return null;
  }
  const [groups, more] = firstLines(told);
  return (
    <details className={props.noted ? 'fwm-noted' : undefined}>
      <summary>
        {props.noted
          ? trans.__('Remarks (%1): %2', warnings.length, cut(first(warnings).text, MOST_FIRST))
          : trans.__('Remarks')}
      </summary>
      {groups.map((group, i) => (
        <div key={i}>
          <h3>{group.name}</h3>
          <Lines lines={group.lines} goTo={goTo} />
        </div>
      ))}
      {more > 0 && <p>{trans.__('%1 more remarks are not shown.', more)}</p>}
    </details>
  );
}

/** Return the remark that weighs most: why a variant failed, or else the first one. */
function first(warnings: Words['conditions']): Words['conditions'][number] {
  return warnings.find(line => line.label === 'failed') ?? warnings[0];
}

/** Return the groups as far as they are shown, and how many remarks are not. */
function firstLines(groups: Words['details']): [Words['details'], number] {
  let room = MOST_REMARKS;
  let more = 0;
  const shown = groups.flatMap(group => {
    const lines = group.lines.slice(0, room);
    room -= lines.length;
    more += group.lines.length - lines.length;
    return lines.length > 0 ? [{ ...group, lines }] : [];
  });
  return [shown, more];
}

function Lines(props: { lines: Words['conditions']; goTo: GoTo }): React.JSX.Element {
  return (
    <dl>
      {props.lines.map((line, i) => (
        <div key={i} className={line.warning ? 'fwm-warning' : undefined}>
          <dt>{line.label}</dt>
          <dd>
            <Linked text={line.text} goTo={props.goTo} />
          </dd>
        </div>
      ))}
    </dl>
  );
}
