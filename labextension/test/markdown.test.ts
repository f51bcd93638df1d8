import { expect, it } from 'vitest';

import { toMarkdown } from '../src/markdown';
import type { Words } from '../src/read';
import written from './markdown.json';
import { words } from './reports';

it('shows whatever a report says, and obeys none of it', () => {
  const line = { label: 'a|b', text: '<b>', warning: true };
  const fields = {
    headline: [{ text: 'x_y is *fast*', warning: true }],
    figures: { head: ['variant'], rows: [['a_b']] },
    details: [{ name: '# torch', lines: [{ ...line, warning: false }] }],
    conditions: [line]
  };
  const text = toMarkdown(words(fields));
  expect(text).toBe(
    [
      '**x_y is \\*fast\\***',
      '| variant |\n| --- |\n| a_b |',
      '### \\# torch\n\n- a\\|b: \\<b\\>',
      '### Conditions\n\n- **a\\|b**: \\<b\\>\n'
    ].join('\n\n')
  );
});

// tests/test_text.py holds to_markdown() to the same.
it('writes what Python writes', () => {
  expect(toMarkdown(words(written.words as unknown as Partial<Words>))).toBe(written.markdown);
});
