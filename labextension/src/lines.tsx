/** A cell line by line: a slider over the steps of its trace and of its run, and each line as it was at that step. */

import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { leftOut, type Lines } from './read';
import { place, seen, type Seen, type Visit, where } from './steps';
import { type GoTo, Linked } from './view';

export function LinesView(props: { lines: Lines; goTo: GoTo; trans: TranslationBundle }): React.JSX.Element {
  const { lines, goTo, trans } = props;
  const left = leftOut(lines);
  const [at, setAt] = React.useState(0);
  const code = React.useRef<HTMLDivElement>(null);
  const { visits } = lines;
  const step = visits.at(at);
  React.useEffect(() => {
    reveal(code.current);
  }, [at]);
  const found = seen(visits, at);
  return (
    <div className="fwm-report fwm-lines">
      <div className="fwm-headline">
        <p>
          <Linked text={lines.answer} goTo={goTo} />
        </p>
        {left.length > 0 && (
          <p className="fwm-warning">{trans.__('Too much to be shown whole. Left out: %1.', left.join(', '))}</p>
        )}
      </div>
      {step === undefined ? (
        <p>{trans.__('No step of this cell was followed.')}</p>
      ) : (
        <>
          <input
            type="range"
            min={0}
            max={visits.length - 1}
            value={at}
            aria-label={trans.__('Step')}
            aria-valuetext={[where(lines, at, trans), ...step.told].join('; ')}
            onChange={event => {
              setAt(Number(event.target.value));
            }}
          />
          <p className="fwm-where">
            <Linked text={where(lines, at, trans)} goTo={step.passage === 0 ? goTo : undefined} />
          </p>
        </>
      )}
      {lines.note !== '' && <p>{lines.note}</p>}
      <div ref={code} className="fwm-scroll fwm-code" tabIndex={0} role="group" aria-label={trans.__('Lines')}>
        {lines.passages.map(({ name, lines: rows }, passage) => (
          <React.Fragment key={passage}>
            {name !== '' && <h3>{trans.__('%1, of another cell', name)}</h3>}
            <ol>
              {rows.map(row => (
                <CodeRow
                  key={row.number}
                  row={row}
                  seen={found.get(place(passage, row.number)) ?? {}}
                  current={step?.passage === passage && step.line === row.number}
                  trans={trans}
                />
              ))}
            </ol>
          </React.Fragment>
        ))}
      </div>
    </div>
  );
}

function CodeRow(props: {
  row: Lines['passages'][number]['lines'][number];
  seen: Seen;
  current: boolean;
  trans: TranslationBundle;
}): React.JSX.Element {
  const { row, seen, current, trans } = props;
  return (
    <li aria-current={current ? 'step' : undefined} className={row.marked ? 'fwm-warning' : undefined}>
      <span>{`${row.marked ? '!' : ''}${row.number}`}</span>
      <code>{row.text}</code>
      {seen.traced && <Told when={trans.__('tracing')} visit={seen.traced} />}
      {seen.run && <Told when={trans.__('no trace')} visit={seen.run} />}
      {row.note !== '' && <p>! {row.note}</p>}
    </li>
  );
}

function Told(props: { when: string; visit: Visit }): React.JSX.Element {
  const { when, visit } = props;
  return (
    <p>
      <b>{`${when} ${visit.time}×`}</b> {visit.told.join(', ')}
    </p>
  );
}

/** Scroll the code, and nothing around it, to the line of the step. */
function reveal(code: HTMLElement | null): void {
  const row = code?.querySelector('[aria-current]');
  if (code && row) {
    const [outer, inner] = [code.getBoundingClientRect(), row.getBoundingClientRect()];
    code.scrollTop += Math.max(inner.bottom - outer.bottom, 0) || Math.min(inner.top - outer.top, 0);
  }
}
