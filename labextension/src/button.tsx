/** A button that says for a moment what it has done, if that is not to be seen anywhere. */

import * as React from 'react';

/** Milliseconds for which it does. */
const SAID = 2000;

export function ActionButton(props: {
  label: string;
  /** What it acts on, where a page has several of the same label. */
  of?: string;
  done?: string;
  /** What it does, where the label is short. */
  hint?: string;
  command?: string;
  disabled?: boolean;
  onClick: () => void;
}): React.JSX.Element {
  const { label, of, done, hint, command, disabled, onClick } = props;
  const [pressed, setPressed] = React.useState(false);
  React.useEffect(() => {
    const timer = pressed ? window.setTimeout(setPressed, SAID, false) : undefined;
    return () => {
      window.clearTimeout(timer);
    };
  }, [pressed]);
  const text = pressed && done !== undefined ? done : label;
  return (
    <button
      data-command={command}
      title={hint}
      aria-label={of === undefined ? undefined : `${text} (${of})`}
      disabled={disabled}
      onClick={() => {
        setPressed(true);
        onClick();
      }}
    >
      <span aria-live="polite">{text}</span>
    </button>
  );
}
