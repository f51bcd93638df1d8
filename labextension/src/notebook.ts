/** What a notebook and its kernel tell of its runs: stored outputs, live updates, and the end of a kernel. */

import type { ISessionContext } from '@jupyterlab/apputils';
import type { ICodeCellModel } from '@jupyterlab/cells';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { IOutputModel } from '@jupyterlab/rendermime';
import type { KernelMessage } from '@jupyterlab/services';
import type { IStateDB } from '@jupyterlab/statedb';
import type { ReadonlyPartialJSONValue } from '@lumino/coreutils';
import { type ISignal, Signal } from '@lumino/signaling';

import { ANY_VERSION, isLines, type Read, read, type Report, type Told } from './read';
import { chosen, keep, makesWay, merged, type Run, unshown } from './runs';

/** Milliseconds that changes of a notebook are gathered for: an update while a cell runs is one of at most five a second. */
const GATHER = 100;
/** Milliseconds that outputs are read for at a stretch; those of a long notebook come one after the other. */
const STRETCH = 20;
const ENDED = ['restarting', 'autorestarting', 'terminating', 'dead', 'idle'];
const SHOWN = ['display_data', 'update_display_data', 'execute_result'];

/** The runs of one open notebook, and which of them are chosen. */
export class NotebookRuns {
  /** What was read of each output, null if it holds nothing of ours; an output that changes is read again. */
  private readonly outputs = new WeakMap<IOutputModel, Read | null>();
  private readonly live = new Map<string, Report>();
  private readonly running = new Set<string>();
  /** Whether the kernel was seen without work: no run of before goes on. */
  private resting = false;
  private cells = new Map<string, number>();
  private stored: Read[] = [];
  private kept: Report[] = [];
  private ids: string[] = [];
  /** The run of the cell that was selected last, until a newer one comes or another is chosen. */
  private followed: string | undefined;
  private pinned: string[] = [];
  private timer: number | undefined;
  private readonly changes = new Signal<this, void>(this);
  private readonly firsts = new Signal<this, void>(this);

  constructor(
    readonly panel: NotebookPanel,
    private readonly state: IStateDB | null
  ) {
    const { context, sessionContext } = panel;
    sessionContext.iopubMessage.connect(this.onMessage, this);
    sessionContext.statusChanged.connect(this.onStatus, this);
    sessionContext.kernelChanged.connect(this.onKernel, this);
    context.pathChanged.connect(this.save, this);
    panel.title.changed.connect(this.gather, this);
    panel.content.activeCellChanged.connect(this.onActive, this);
    panel.disposed.connect(() => {
      window.clearTimeout(this.timer);
      Signal.clearData(this);
    });
    void Promise.all([context.ready, this.restore()]).then(() => {
      context.model.contentChanged.connect(this.gather, this);
      this.scan();
      this.follow();
      this.onStatus(sessionContext, sessionContext.session?.kernel?.status ?? 'unknown');
      this.changes.emit();
    });
  }

  /** Emitted when a run, the choice or the kernel's state changed. */
  get changed(): ISignal<this, void> {
    return this.changes;
  }

  /** Emitted when a message of the kernel brings a report, not for stored ones. */
  get arrived(): ISignal<this, void> {
    return this.firsts;
  }

  get name(): string {
    return this.panel.title.label;
  }

  get session(): ISessionContext {
    return this.panel.sessionContext;
  }

  /** All runs, newest first. */
  get runs(): Run[] {
    const stored = this.stored.flatMap(found => (found.kind === 'report' ? [found.report] : []));
    const seen = new Map<string, Told>([...stored, ...this.live.values()].map(report => [report.run_id, report]));
    const runs = [...seen.values()].map(report => ({
      report,
      unfinished: !isLines(report) && report.state === 'running' && !this.running.has(report.run_id),
      stored: this.cells.has(report.run_id)
    }));
    return merged(runs, this.kept);
  }

  /** Outputs that hold a report which cannot be shown. */
  get problems(): Read[] {
    return this.stored.filter(found => found.kind !== 'report');
  }

  get chosen(): Run[] {
    return chosen(this.runs, this.ids.length > 0 || this.followed === undefined ? this.ids : [this.followed]);
  }

  /** The run of the selected cell, if it is none of those that are shown. */
  get other(): Run | undefined {
    return unshown(this.runs, this.chosen, run => this.cell(run), this.panel.content.activeCellIndex);
  }

  /** Show one run, or two beside each other; none: always the newest. */
  choose(ids: string[]): void {
    this.ids = ids;
    this.followed = undefined;
    this.save();
    this.changes.emit();
  }

  /** The ids of the runs that stay in the list, in front, until they are let go. */
  get pins(): readonly string[] {
    return this.pinned;
  }

  /** Pin a run, or let it go. */
  pin({ report }: Run): void {
    const id = report.run_id;
    const free = this.pinned.filter(other => other !== id);
    this.pinned = free.length < this.pinned.length ? free : [...free, id];
    if (!isLines(report)) {
      this.kept = keep(this.kept, report, this.pinned); // its cell may run again
    }
    this.save();
    this.changes.emit();
  }

  /** Forget the runs that only this browser holds, but for pinned ones; the notebook is not touched. */
  clear(): void {
    this.kept = this.kept.filter(report => this.pinned.includes(report.run_id));
    for (const id of this.live.keys()) {
      if (!this.cells.has(id) && !this.pinned.includes(id)) {
        this.live.delete(id);
      }
    }
    this.save();
    this.changes.emit();
  }

  /** Return the index of the cell whose output holds the run, undefined if there is none. */
  cell(run: Run): number | undefined {
    return this.cells.get(run.report.run_id);
  }

  private onActive(): void {
    if (makesWay(this.chosen, this.pinned)) {
      this.ids = this.other === undefined ? this.ids : [];
      this.follow();
    }
    this.changes.emit();
  }

  /** Show the run of the selected cell, if it has one and nothing else was chosen. */
  private follow(): void {
    this.followed = this.ids.length > 0 ? undefined : (this.other?.report.run_id ?? this.followed);
  }

  private onMessage(_: ISessionContext, message: KernelMessage.IMessage): void {
    if (!SHOWN.includes(message.header.msg_type)) {
      return;
    }
    const found = readData((message.content as KernelMessage.IDisplayDataMsg['content']).data);
    if (found?.kind !== 'report') {
      return;
    }
    const { report } = found;
    if (!this.live.has(report.run_id)) {
      this.ids = this.ids.length === 1 ? [] : this.ids; // the newest is what its user waits for
      this.followed = undefined;
    }
    // A cell line by line is there as long as its output is.
    if (!isLines(report)) {
      this.live.set(report.run_id, report);
      if (!this.goesOn(report)) {
        this.running.delete(report.run_id);
        this.kept = keep(this.kept, report, this.pinned);
        this.save();
      }
    }
    this.firsts.emit();
    this.gather();
  }

  private goesOn(report: Told): boolean {
    const running = !isLines(report) && report.state === 'running';
    if (running) {
      this.running.add(report.run_id);
    }
    return running;
  }

  private onStatus(_: ISessionContext, status: string): void {
    if (ENDED.includes(status)) {
      this.running.clear();
    }
    if ([...ENDED, 'starting'].includes(status)) {
      this.resting = true;
    } else if (status === 'busy' && !this.resting) {
      // The page came while a cell ran: what the notebook holds may be its report.
      this.stored.forEach(found => found.kind === 'report' && this.goesOn(found.report));
    }
    this.gather();
  }

  private onKernel(): void {
    this.running.clear();
    this.gather();
  }

  private gather(): void {
    this.timer ??= window.setTimeout(() => {
      this.timer = undefined;
      this.scan();
      this.changes.emit();
    }, GATHER);
  }

  private scan(): void {
    const cells = this.panel.context.model.cells;
    const end = performance.now() + STRETCH;
    this.stored = [];
    this.cells = new Map();
    for (let i = 0; i < cells.length; i++) {
      const cell = cells.get(i);
      const outputs = cell.type === 'code' ? (cell as ICodeCellModel).outputs : undefined;
      for (let j = 0; j < (outputs?.length ?? 0); j++) {
        const output = outputs?.get(j);
        if (output === undefined) {
          continue;
        }
        if (!this.outputs.has(output) && performance.now() > end) {
          this.gather(); // the page is free meanwhile
          return;
        }
        const found = this.readOutput(output);
        if (found) {
          this.stored.push(found);
        }
        if (found?.kind === 'report') {
          this.cells.set(found.report.run_id, i);
        }
      }
    }
  }

  private readOutput(output: IOutputModel): Read | null {
    const known = this.outputs.get(output);
    if (known !== undefined) {
      return known;
    }
    const found = readData(output.data) ?? null;
    this.outputs.set(output, found);
    output.changed.connect(this.onOutput, this);
    return found;
  }

  private onOutput(output: IOutputModel): void {
    if (this.outputs.get(output) !== undefined) {
      this.outputs.delete(output);
      this.gather();
    }
  }

  private get key(): string {
    return `fwmagic:${this.panel.context.path}`;
  }

  private async restore(): Promise<void> {
    const value = (await this.state?.fetch(this.key)) as
      { kept?: unknown; chosen?: unknown; pinned?: unknown } | undefined;
    const kept = Array.isArray(value?.kept) ? value.kept.map(one => read(one)) : [];
    this.kept = kept.flatMap(found => (found.kind === 'report' && !isLines(found.report) ? [found.report] : []));
    this.ids = texts(value?.chosen);
    this.pinned = texts(value?.pinned);
  }

  private save(): void {
    const value = { kept: this.kept, chosen: this.ids, pinned: this.pinned };
    void this.state?.save(this.key, value as unknown as ReadonlyPartialJSONValue);
  }
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter(one => typeof one === 'string') : [];
}

/** Return what the data of a MIME bundle holds of ours, undefined if nothing. */
function readData(data: unknown): Read | undefined {
  if (typeof data !== 'object' || data === null) {
    return undefined;
  }
  for (const [mime, value] of Object.entries(data)) {
    if (ANY_VERSION.test(mime)) {
      return read(value, mime);
    }
  }
  return undefined;
}
