/** The renderer of a report in a cell's output. */

import type { IThemeManager } from '@jupyterlab/apputils';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { type Read, read } from './read';
import { load } from './vega';
import { ReportView } from './view';

export class ReportOutput extends ReactWidget implements IRenderMime.IRenderer {
  private value: Read = { kind: 'invalid', why: '' };

  constructor(
    private readonly mime: string,
    private readonly rendermime: IRenderMimeRegistry,
    private readonly themes: IThemeManager | null,
    private readonly trans: TranslationBundle
  ) {
    super();
    load(rendermime);
    this.addClass('fwm-output');
    themes?.themeChanged.connect(this.onTheme, this);
  }

  override dispose(): void {
    this.themes?.themeChanged.disconnect(this.onTheme, this);
    super.dispose();
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this.value = read(model.data[this.mime]);
    this.update();
    await this.renderPromise;
  }

  protected render(): React.JSX.Element {
    const { value, rendermime, trans } = this;
    if (value.kind !== 'report') {
      return <p>{problem(value, trans)}</p>;
    }
    return (
      <ReportView reports={[value.report]} rendermime={rendermime} trans={trans} theme={this.themes?.theme ?? ''} />
    );
  }

  private onTheme(): void {
    this.update();
  }
}

/** Return the sentence that says why a value cannot be shown, and what to do. */
export function problem(value: Exclude<Read, { kind: 'report' }>, trans: TranslationBundle): string {
  return value.kind === 'newer'
    ? trans.__(
        'This report has version %1 of the format, which this panel does not know: update fwmagic.',
        value.version
      )
    : trans.__('This is not a report of fwmagic (%1): run the cell again.', value.why);
}
