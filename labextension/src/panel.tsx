/** The side panel: the runs of the current notebook, one of them or two beside each other. */

import type { IThemeManager } from '@jupyterlab/apputils';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import * as React from 'react';

import { ActionButton } from './button';
import { LinesView } from './lines';
import type { NotebookRuns } from './notebook';
import { isLines, isReport, type Read, type Told } from './read';
import { listed, type Run } from './runs';
import { load } from './vega';
import { brief, called, type GoTo, ReportView, title, whose } from './view';

export const COMMANDS = {
  open: 'fwmagic:open',
  goToCell: 'fwmagic:go-to-cell',
  copyMarkdown: 'fwmagic:copy-markdown',
  saveJson: 'fwmagic:save-json',
  clear: 'fwmagic:clear-runs'
};

/** From so many runs on, there is a field to look for one. */
const MANY = 4;

/** Two cells that make a first report. */
const EXAMPLE = [
  '%load_ext fwmagic',
  `%%compare
%%setup
A = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
%%torch
torch.tanh(A @ A)
%%jax
jnp.tanh(A @ A)`
];

export class ComparePanel extends ReactWidget {
  private current: NotebookRuns | null = null;

  constructor(
    private readonly commands: CommandRegistry,
    private readonly rendermime: IRenderMimeRegistry,
    private readonly themes: IThemeManager | null,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.id = 'fwmagic-panel';
    this.addClass('fwm-panel');
    this.node.tabIndex = -1; // whoever asks for the panel is taken there
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('Compare'));
    this.title.caption = trans.__('Compare PyTorch and JAX');
    themes?.themeChanged.connect(this.refresh, this);
  }

  /** The notebook whose runs are shown. */
  get notebook(): NotebookRuns | null {
    return this.current;
  }

  set notebook(notebook: NotebookRuns | null) {
    if (notebook !== this.current) {
      this.current?.changed.disconnect(this.refresh, this);
      notebook?.changed.connect(this.refresh, this);
      this.current = notebook;
      this.update();
    }
  }

  protected render(): React.JSX.Element {
    const { current, trans } = this;
    if (current === null) {
      return <Empty sentence={trans.__('No notebook is open: open one, and run a comparison in it.')} trans={trans} />;
    }
    const { runs, problems, chosen } = current;
    const { hasNoKernel, kernelDisplayStatus } = current.session;
    const reports = chosen.map(run => run.report);
    const lines = reports.find(isLines);
    return (
      <>
        <div className="fwm-hidden" role="status">
          {chosen.length === 1 ? verdict(chosen[0], trans) : ''}
        </div>
        <h2>{current.name}</h2>
        {problems.map((found, i) => found.kind !== 'report' && <p key={i}>{problem(found, trans)}</p>)}
        {runs.length > 0 ? (
          <RunList runs={runs} chosen={chosen} notebook={current} commands={this.commands} trans={trans} />
        ) : hasNoKernel && kernelDisplayStatus !== 'initializing' ? (
          <Empty sentence={trans.__('This notebook has no kernel: choose one, and run a comparison.')} trans={trans} />
        ) : (
          <Empty
            sentence={trans.__(
              'No report in this notebook yet: load fwmagic and compare two cells, as in this example.'
            )}
            examples={EXAMPLE}
            trans={trans}
          />
        )}
        {chosen.length > 0 && (
          <>
            <Whose notebook={current} trans={trans} />
            <Actions commands={this.commands} trans={trans} />
            {lines ? (
              <LinesView key={lines.run_id} lines={lines} goTo={this.goTo(current, lines)} trans={trans} />
            ) : (
              <ReportView
                reports={reports.filter(isReport)}
                unfinished={new Set(chosen.filter(run => run.unfinished).map(run => run.report.run_id))}
                goTo={report => this.goTo(current, report)}
                rendermime={this.rendermime}
                trans={trans}
                theme={this.themes?.theme ?? ''}
              />
            )}
          </>
        )}
      </>
    );
  }

  private goTo(notebook: NotebookRuns, { run_id: run }: Told): GoTo {
    const held = notebook.runs.some(one => one.report.run_id === run && one.stored);
    return held ? line => void this.commands.execute(COMMANDS.goToCell, { run, line }) : undefined;
  }

  private refresh(): void {
    if (this.current !== null && this.current.runs.length > 0) {
      load(this.rendermime);
    }
    this.update();
    this.commands.notifyCommandChanged();
  }
}

/** Return what a screen reader says when it changes: not each share of a run that is at work. */
function verdict({ report, unfinished }: Run, trans: TranslationBundle): string {
  if (isLines(report)) {
    return report.answer;
  }
  return report.state === 'running' && !unfinished
    ? trans.__('A comparison is running')
    : (report.words?.headline.map(sentence => sentence.text).join('. ') ?? '');
}

function RunList(props: {
  runs: readonly Run[];
  chosen: readonly Run[];
  notebook: NotebookRuns;
  commands: CommandRegistry;
  trans: TranslationBundle;
}): React.JSX.Element {
  const { runs, chosen, notebook, commands, trans } = props;
  const ids = chosen.map(run => run.report.run_id);
  // A cell line by line stands alone, and is there as long as its output is.
  const besides = runs.filter(run => isReport(run.report)).length > 1 && !chosen.some(run => isLines(run.report));
  const [wanted, setWanted] = React.useState('');
  const told = (run: Run): string => `${called(run.report)} ${title(run.report, trans)} ${brief(run.report, trans)}`;
  const list = React.useRef<HTMLUListElement>(null);
  React.useEffect(() => {
    // The chosen one is in sight in the list, which alone is scrolled.
    const [all, one] = [list.current, list.current?.querySelector<HTMLElement>('[aria-current=true]')];
    if (all && one) {
      const [top, end] = [one.offsetTop - all.offsetTop, one.offsetTop - all.offsetTop + one.offsetHeight];
      all.scrollTop = Math.min(top, Math.max(all.scrollTop, end - all.clientHeight));
    }
  }, [ids.join()]);
  const shown = listed(runs, notebook.pins, runs.length < MANY ? '' : wanted, told);
  return (
    <nav className="fwm-runs" aria-label={trans.__('Reports of this notebook')}>
      {runs.length >= MANY && (
        <input
          type="search"
          value={wanted}
          placeholder={trans.__('Filter')}
          aria-label={trans.__('Filter the reports')}
          onChange={event => {
            setWanted(event.target.value);
          }}
        />
      )}
      {shown.length === 0 && <p>{trans.__('No report has these words.')}</p>}
      <ul ref={list}>
        {shown.map(run => {
          const { report, unfinished, stored } = run;
          const id = report.run_id;
          const pinned = notebook.pins.includes(id);
          const name = called(report) || title(report, trans);
          const place = ids.indexOf(id);
          const beside = (): void => {
            notebook.choose(place >= 0 ? ids.filter(other => other !== id) : [ids[0], id]);
          };
          return (
            <li key={id} aria-current={place >= 0}>
              <button
                className="fwm-pick"
                aria-pressed={place >= 0}
                onClick={() => {
                  notebook.choose([id]);
                }}
              >
                <span className="fwm-name">
                  {ids.length > 1 && place >= 0 ? `${'①②'[place]} ` : ''}
                  {name}
                </span>
                <span>
                  {unfinished ? trans.__('unfinished: ') : ''}
                  {brief(report, trans)}
                </span>
                <span className="fwm-when">
                  {' · '}
                  {title(report, trans)}
                  {stored ? '' : trans.__(' (earlier run)')}
                </span>
              </button>
              {isReport(report) && (
                <button
                  className="fwm-pin"
                  aria-pressed={pinned}
                  title={trans.__('Keep this report in front of the list, also when its cell runs again')}
                  aria-label={trans.__('Pin: %1', title(report, trans))}
                  onClick={() => {
                    notebook.pin(run);
                  }}
                >
                  {pinned ? '★' : '☆'}
                </button>
              )}
              {besides && isReport(report) && !(ids.length === 1 && place === 0) && (
                <button
                  className="fwm-beside"
                  aria-pressed={ids.length > 1 && place >= 0}
                  title={trans.__('Put beside the chosen report, or take away from there')}
                  aria-label={trans.__('Beside the chosen report: %1', title(report, trans))}
                  onClick={beside}
                >
                  ⇄
                </button>
              )}
            </li>
          );
        })}
      </ul>
      {runs.some(run => !run.stored) && (
        <button
          className="fwm-clear"
          title={trans.__('Forget the earlier runs that only this browser keeps; the notebook stays as it is')}
          onClick={() => void commands.execute(COMMANDS.clear)}
        >
          {trans.__('Clear earlier runs')}
        </button>
      )}
    </nav>
  );
}

/** Return the sentence that says why a value cannot be shown, and what to do. */
function problem(value: Exclude<Read, { kind: 'report' }>, trans: TranslationBundle): string {
  return value.kind === 'newer'
    ? trans.__(
        'This report has version %1 of the format, which this panel does not know: update fwmagic.',
        value.version
      )
    : trans.__('This is not a report of fwmagic (%1): run the cell again.', value.why);
}

/** Whose the report below is, and the way to the run of the selected cell, if that is another one. */
function Whose(props: { notebook: NotebookRuns; trans: TranslationBundle }): React.JSX.Element {
  const { notebook, trans } = props;
  const { chosen, other } = notebook;
  return (
    <p className={other ? 'fwm-whose fwm-warning' : 'fwm-whose'}>
      {chosen.length === 1 &&
        (other
          ? trans.__('Not the selected cell. Shown: %1', whose(chosen[0].report, trans))
          : trans.__('Shown: %1', whose(chosen[0].report, trans)))}{' '}
      {other && (
        <button
          onClick={() => {
            notebook.choose([other.report.run_id]);
          }}
        >
          {trans.__('Show the selected cell: %1', whose(other.report, trans))}
        </button>
      )}
    </p>
  );
}

/** What stands on a button: all of them fit into one row of a narrow panel. */
const SHORT: Partial<Record<string, (trans: TranslationBundle) => string>> = {
  [COMMANDS.copyMarkdown]: trans => trans.__('Copy'),
  [COMMANDS.saveJson]: trans => trans.__('Save')
};

/** What a button says when its command is done, where that is not to be seen. */
const DONE: Partial<Record<string, (trans: TranslationBundle) => string>> = {
  [COMMANDS.copyMarkdown]: trans => trans.__('Copied'),
  [COMMANDS.saveJson]: trans => trans.__('Saved')
};

function Actions(props: { commands: CommandRegistry; trans: TranslationBundle }): React.JSX.Element {
  const { commands, trans } = props;
  return (
    <div className="fwm-actions" role="toolbar" aria-label={trans.__('Report')}>
      {[COMMANDS.goToCell, COMMANDS.copyMarkdown, COMMANDS.saveJson].map(command => (
        <ActionButton
          key={command}
          command={command}
          label={SHORT[command]?.(trans) ?? commands.label(command)}
          hint={commands.label(command)}
          done={DONE[command]?.(trans)}
          disabled={!commands.isEnabled(command)}
          onClick={() => void commands.execute(command)}
        />
      ))}
    </div>
  );
}

function Empty(props: { sentence: string; examples?: readonly string[]; trans: TranslationBundle }): React.JSX.Element {
  const { sentence, examples, trans } = props;
  return (
    <div className="fwm-empty">
      <p>{sentence}</p>
      {examples?.map((example, i) => (
        <React.Fragment key={i}>
          <pre tabIndex={0} aria-label={trans.__('Example of cell %1', i + 1)} role="group">
            {example}
          </pre>
          <ActionButton
            label={trans.__('Copy cell %1', i + 1)}
            done={trans.__('Copied')}
            onClick={() => void navigator.clipboard.writeText(example)}
          />
        </React.Fragment>
      ))}
    </div>
  );
}
