import { expect, it } from 'vitest';

import { pairToMarkdown, toMarkdown } from '../src/markdown';
import type { Words } from '../src/read';
import written from './markdown.json';
import { report, words } from './reports';

it('shows whatever a report says, and obeys none of it', () => {
  const line = { label: 'a|b', text: '<b>', warning: true, finding: null };
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

it('writes both of a pair, and what changed, with the code in a fence that it cannot end', () => {
  const text = pairToMarkdown(report({ cell: 'a|b\n```' }), report({ cell: 'a|c\n```', execution_count: 2 }));
  expect(text).toContain('## ①\n\n### Conditions');
  expect(text).toContain('## ②\n\n### Conditions');
  expect(text).toContain(
    '## What changed from ① to ②\n\n**no sure change of torch (0.905-1.11 of its time), jax (0.905-1.11 of its time); 1 changed line of code.**\n\n| what | ① | ② |\n| --- | --- | --- |\n| torch per call |'
  );
  expect(text).toContain('\n\n````diff\n- a|b\n+ a|c\n  ```\n````\n');
});
