/** The side panel: the runs of the current notebook, one of them or two beside each other. */

import type { IThemeManager } from '@jupyterlab/apputils';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import * as React from 'react';

import type { NotebookRuns } from './notebook';
import type { Read } from './read';
import type { Run } from './runs';
import { load } from './vega';
import { brief, ReportView, title } from './view';

export const COMMANDS = {
  open: 'fwmagic:open',
  goToCell: 'fwmagic:go-to-cell',
  copyMarkdown: 'fwmagic:copy-markdown',
  saveJson: 'fwmagic:save-json',
  clear: 'fwmagic:clear-runs'
};

/** Milliseconds for which a button says what it has done. */
const SAID = 2000;

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
    return (
      <>
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
            <Actions commands={this.commands} trans={trans} />
            <ReportView
              reports={chosen.map(run => run.report)}
              unfinished={new Set(chosen.filter(run => run.unfinished).map(run => run.report.run_id))}
              rendermime={this.rendermime}
              trans={trans}
              theme={this.themes?.theme ?? ''}
            />
          </>
        )}
      </>
    );
  }

  private refresh(): void {
    if (this.current !== null && this.current.runs.length > 0) {
      load(this.rendermime);
    }
    this.update();
    this.commands.notifyCommandChanged();
  }
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
  return (
    <nav className="fwm-runs" aria-label={trans.__('Reports of this notebook')}>
      <ul>
        {runs.map(({ report, unfinished, stored }) => {
          const id = report.run_id;
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
                <span className="fwm-when">
                  {ids.length > 1 && place >= 0 ? `${'①②'[place]} ` : ''}
                  {title(report, trans)}
                  {stored ? '' : trans.__(' (earlier run)')}
                </span>
                <span className="fwm-verdict">
                  {unfinished ? trans.__('unfinished: ') : ''}
                  {brief(report, trans)}
                </span>
              </button>
              {runs.length > 1 && !(ids.length === 1 && place === 0) && (
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
      <button
        className="fwm-clear"
        title={trans.__('Forget the earlier runs that only this browser keeps; the notebook stays as it is')}
        onClick={() => void commands.execute(COMMANDS.clear)}
      >
        {trans.__('Clear earlier runs')}
      </button>
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

function Actions(props: { commands: CommandRegistry; trans: TranslationBundle }): React.JSX.Element {
  const { commands, trans } = props;
  return (
    <div className="fwm-actions" role="toolbar" aria-label={trans.__('Report')}>
      {[COMMANDS.goToCell, COMMANDS.copyMarkdown, COMMANDS.saveJson].map(command => (
        <ActionButton
          key={command}
          command={command}
          label={commands.label(command)}
          done={command === COMMANDS.copyMarkdown ? trans.__('Copied') : undefined}
          disabled={!commands.isEnabled(command)}
          onClick={() => void commands.execute(command)}
        />
      ))}
    </div>
  );
}

/** A button that says for a moment what it has done, if that is not to be seen anywhere. */
function ActionButton(props: {
  label: string;
  done?: string;
  command?: string;
  disabled?: boolean;
  onClick: () => void;
}): React.JSX.Element {
  const { label, done, command, disabled, onClick } = props;
  const [pressed, setPressed] = React.useState(false);
  React.useEffect(() => {
    const timer = pressed ? window.setTimeout(setPressed, SAID, false) : undefined;
    return () => {
      window.clearTimeout(timer);
    };
  }, [pressed]);
  return (
    <button
      data-command={command}
      disabled={disabled}
      onClick={() => {
        setPressed(true);
        onClick();
      }}
    >
      <span aria-live="polite">{pressed && done !== undefined ? done : label}</span>
    </button>
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
