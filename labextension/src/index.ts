/** The plugin: the side panel with the comparisons of the current notebook. */

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Clipboard, ICommandPalette, IThemeManager } from '@jupyterlab/apputils';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStateDB } from '@jupyterlab/statedb';
import { ITranslator, nullTranslator, type TranslationBundle } from '@jupyterlab/translation';
import { LabIcon } from '@jupyterlab/ui-components';

import { changes } from './changes';
import { save } from './file';
import { pairToMarkdown, toMarkdown } from './markdown';
import { NotebookRuns } from './notebook';
import { ComparePanel, COMMANDS } from './panel';
import { isReport, whole } from './read';

const DOMAIN = 'fwmagic';
const PANEL = 'fwmagic:panel';

const icon = new LabIcon({
  name: 'fwmagic:compare',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 16 16">
  <g class="jp-icon3" fill="#616161"><rect x="2" y="3" width="12" height="4" rx="1"/><rect x="2" y="9" width="7" height="4" rx="1"/></g></svg>`
});

const panel: JupyterFrontEndPlugin<void> = {
  id: PANEL,
  description: 'The side panel with the comparisons of the current notebook.',
  autoStart: true,
  requires: [INotebookTracker, IRenderMimeRegistry],
  optional: [ILayoutRestorer, ICommandPalette, IThemeManager, ISettingRegistry, IStateDB, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    notebooks: INotebookTracker,
    rendermime: IRenderMimeRegistry,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    themes: IThemeManager | null,
    registry: ISettingRegistry | null,
    state: IStateDB | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load(DOMAIN);
    const widget = new ComparePanel(app.commands, rendermime, themes, trans);
    widget.title.icon = icon;
    app.shell.add(widget, 'right', { rank: 900 });
    restorer?.add(widget, 'fwmagic-panel');

    addCommands(app, widget, trans);
    for (const command of Object.values(COMMANDS)) {
      palette?.addItem({ command, category: 'fwmagic' });
    }

    let openByItself = true;
    void registry?.load(PANEL).then(settings => {
      const follow = (): void => {
        openByItself = settings.get('openByItself').composite as boolean;
      };
      settings.changed.connect(follow);
      follow();
    });
    let opened = false;
    const onReport = (): void => {
      if (!opened && openByItself) {
        app.shell.activateById(widget.id);
      }
      opened = true;
    };

    const runs = new WeakMap<NotebookPanel, NotebookRuns>();
    const runsOf = (notebook: NotebookPanel): NotebookRuns => {
      const known = runs.get(notebook) ?? new NotebookRuns(notebook, state);
      if (!runs.has(notebook)) {
        runs.set(notebook, known);
        known.arrived.connect(onReport);
      }
      return known;
    };
    notebooks.widgetAdded.connect((_, notebook) => {
      runsOf(notebook);
    });
    const follow = (): void => {
      const notebook = notebooks.currentWidget;
      widget.notebook = notebook && runsOf(notebook);
    };
    notebooks.currentChanged.connect(follow);
    notebooks.forEach(runsOf);
    follow();
  }
};

function addCommands(app: JupyterFrontEnd, widget: ComparePanel, trans: TranslationBundle): void {
  // Of two runs, an earlier one may have left the notebook.
  const cell = (id?: unknown) =>
    (widget.notebook?.chosen ?? [])
      .filter(run => id === undefined || run.report.run_id === id)
      .map(run => widget.notebook?.cell(run))
      .find(index => index !== undefined);
  const reports = () => (widget.notebook?.chosen ?? []).map(run => run.report).filter(isReport);
  const markdown = (): string => {
    const [one, other] = reports();
    return reports().length > 1 ? pairToMarkdown(one, other) : one.words ? toMarkdown(one.words) : '';
  };
  app.commands.addCommand(COMMANDS.open, {
    label: trans.__('Compare PyTorch and JAX'),
    caption: trans.__('Show the panel with the comparisons of the notebook'),
    icon,
    execute: () => {
      app.shell.activateById(widget.id);
      widget.node.focus();
    }
  });
  app.commands.addCommand(COMMANDS.goToCell, {
    label: trans.__('Go to the cell'),
    isEnabled: () => cell() !== undefined,
    execute: async ({ run, line }) => {
      const { notebook } = widget;
      const index = cell(run);
      if (notebook && index !== undefined) {
        const { content } = notebook.panel;
        app.shell.activateById(notebook.panel.id);
        content.activeCellIndex = index;
        await content.scrollToItem(index, 'start');
        if (typeof line === 'number') {
          await content.activeCell?.ready;
          content.mode = 'edit';
          const position = { line: line - 1, column: 0 };
          content.activeCell?.editor?.setCursorPosition(position);
          content.activeCell?.editor?.revealPosition(position);
        }
      }
    }
  });
  app.commands.addCommand(COMMANDS.copyMarkdown, {
    label: trans.__('Copy as Markdown'),
    isEnabled: () => reports().length > 1 || reports().at(0)?.words !== undefined,
    execute: () => {
      Clipboard.copyToSystem(markdown());
    }
  });
  app.commands.addCommand(COMMANDS.saveJson, {
    label: trans.__('Save as JSON'),
    isEnabled: () => reports().length > 0,
    execute: () => {
      const all = reports();
      const plain = all.map(report => ({ ...whole(report), words: undefined }));
      const value = all.length > 1 ? { reports: plain, changes: changes(all[0], all[1]) } : plain[0];
      const name = all.map(report => report.run_id).join('-');
      save(`fwmagic-${name}.json`, 'application/json', JSON.stringify(value, null, 2));
    }
  });
  app.commands.addCommand(COMMANDS.clear, {
    label: trans.__('Clear earlier runs'),
    isEnabled: () => widget.notebook !== null,
    execute: () => {
      widget.notebook?.clear();
    }
  });
}

export default panel;
