/** A chart, drawn by the application's own Vega, with a table of the same figures behind it. */

import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ActionButton } from './button';
import { save } from './file';
import { type Order, ordered } from './order';
import { type Chart, sized } from './specs';
import { draw } from './vega';

/** So many rows of a table are shown: a stored report may have any number. */
const MOST_ROWS = 250;
/** Vega's widget has margins of its own. */
const MARGIN = 20;

export function ChartView(props: {
  chart: Chart;
  rendermime: IRenderMimeRegistry;
  theme: string;
  trans: TranslationBundle;
}): React.JSX.Element {
  const { chart, rendermime, theme, trans } = props;
  const host = React.useRef<HTMLDivElement>(null);
  const drawn = React.useRef<IRenderMime.IRenderer | null>(null);
  const width = useWidth(host);
  const [failed, setFailed] = React.useState(false);
  const drawing = JSON.stringify(chart.spec);

  React.useEffect(() => {
    const node = host.current;
    if (node === null || width === 0) {
      return;
    }
    let current = true;
    const ink = getComputedStyle(node).color;
    draw(rendermime, sized(chart.spec, width - MARGIN, ink), () => current).then(
      renderer => {
        if (renderer !== null && current && node.isConnected) {
          // The drawing before stays until this one is ready, so that nothing is empty in between.
          node.replaceChildren(renderer.node);
          drawn.current?.dispose();
          drawn.current = renderer;
          setFailed(false);
        } else {
          renderer?.dispose();
        }
      },
      () => {
        setFailed(true);
      }
    );
    return () => {
      current = false;
    };
  }, [drawing, width, theme]);
  React.useEffect(() => () => drawn.current?.dispose(), []);

  return (
    <figure className="fwm-chart" data-chart={chart.name}>
      <figcaption>{chart.title}</figcaption>
      <div ref={host} className="fwm-drawing" />
      {failed && <p>{trans.__('This chart could not be drawn; its table has the same figures.')}</p>}
      <ActionButton
        label={trans.__('Save as SVG')}
        of={chart.title}
        done={trans.__('Saved')}
        disabled={failed}
        onClick={() => {
          saveDrawing(`fwmagic-${chart.name}.svg`, host.current);
        }}
      />
      <details open={failed}>
        <summary aria-label={`${trans.__('Table')} (${chart.title})`}>{trans.__('Table')}</summary>
        <TableView head={chart.table.head} rows={chart.table.rows} label={chart.title} trans={trans} />
      </details>
    </figure>
  );
}

/** Save a drawing as it is seen: on the ground that its words were coloured for. */
function saveDrawing(name: string, host: HTMLElement | null): void {
  const drawing = host?.querySelector('svg')?.cloneNode(true) as SVGElement | undefined;
  if (host && drawing) {
    drawing.style.background = getComputedStyle(host.closest('.fwm-panel') ?? host).backgroundColor;
    save(name, 'image/svg+xml', new XMLSerializer().serializeToString(drawing));
  }
}

export function TableView(props: {
  head: readonly string[];
  rows: readonly (readonly string[])[];
  label: string;
  /** Whether a click on the head of a column puts the rows in its order, and another one in the opposite. */
  sortable?: boolean;
  trans: TranslationBundle;
}): React.JSX.Element {
  const [order, setOrder] = React.useState<Order | null>(null);
  const sort = (column: number): void => {
    setOrder({ column, descending: order?.column === column && !order.descending });
  };
  const sorted = (column: number): 'ascending' | 'descending' | undefined =>
    order?.column === column ? (order.descending ? 'descending' : 'ascending') : undefined;
  const host = React.useRef<HTMLDivElement>(null);
  useWidth(host);
  const left = beyond(host.current);
  return (
    <div ref={host} className="fwm-scroll" tabIndex={0} role="group" aria-label={props.label}>
      {left.length > 0 && <p className="fwm-left">{props.trans.__('Scroll for: %1 →', left.join(', '))}</p>}
      <table>
        <thead>
          <tr>
            {props.head.map((name, i) => (
              <th key={i} scope="col" aria-sort={sorted(i)}>
                {props.sortable ? (
                  <button
                    className="fwm-sort"
                    onClick={() => {
                      sort(i);
                    }}
                  >
                    {name}
                  </button>
                ) : (
                  name
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {ordered(props.rows, order)
            .slice(0, MOST_ROWS)
            .map((row, i) => (
              <tr key={i}>
                {row.map((cell, j) =>
                  j === 0 ? (
                    <th key={j} scope="row">
                      {cell}
                    </th>
                  ) : (
                    <td key={j}>
                      <Figure text={cell} />
                    </td>
                  )
                )}
              </tr>
            ))}
        </tbody>
      </table>
      {props.rows.length > MOST_ROWS && (
        <p>{props.trans.__('%1 more rows are not shown.', props.rows.length - MOST_ROWS)}</p>
      )}
    </div>
  );
}

/** Return the heads of the columns of which a scrolled table shows nothing or not all. */
function beyond(host: HTMLElement | null): string[] {
  const heads = [...(host?.querySelectorAll<HTMLElement>('th[scope=col]') ?? [])];
  const width = host?.clientWidth ?? 0;
  return width === 0 ? [] : heads.filter(h => h.offsetLeft + h.offsetWidth > width).map(h => h.textContent);
}

/** A figure, with its interval, which stands in parentheses, on a line of its own. */
function Figure(props: { text: string }): React.JSX.Element {
  const [figure, ...rest] = props.text.split(/ (?=\()/);
  return (
    <>
      {figure}
      {rest.length > 0 && <small> {rest.join(' ')}</small>}
    </>
  );
}

function useWidth(host: React.RefObject<HTMLDivElement>): number {
  const [width, setWidth] = React.useState(0);
  React.useEffect(() => {
    const node = host.current;
    if (node === null) {
      return;
    }
    const observer = new ResizeObserver(() => {
      // A hidden panel has no width: what is drawn stays.
      if (node.clientWidth > 0) {
        setWidth(node.clientWidth);
      }
    });
    observer.observe(node);
    return () => {
      observer.disconnect();
    };
  }, []);
  return width;
}
