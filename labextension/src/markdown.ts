/** A report as Markdown (GitHub's dialect), as fwmagic/report/text.py writes it. */

import type { Words } from './read';

const SPECIAL = /[\\`*[\]<>|~#&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])/g;

/** Return verdicts, table and remarks; whatever a report says is shown, never obeyed. */
export function toMarkdown(words: Words): string {
  const blocks = words.headline.map(s => `**${escaped(s.text)}**`);
  if (words.figures.rows.length > 0) {
    const [head, ...rows] = [words.figures.head, ...words.figures.rows].map(cells => row(cells.map(escaped)));
    blocks.push([head, row(words.figures.head.map(() => '---')), ...rows].join('\n'));
  }
  blocks.push(...words.details.map(group => `### ${escaped(group.name)}\n\n${bullets(group.lines)}`));
  blocks.push(`### Conditions\n\n${bullets(words.conditions)}`);
  return `${blocks.join('\n\n')}\n`;
}

function bullets(lines: Words['conditions']): string {
  return lines
    .map(({ label, text, warning }) => `- ${warning ? `**${escaped(label)}**` : escaped(label)}: ${escaped(text)}`)
    .join('\n');
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function escaped(text: string): string {
  return text.replace(SPECIAL, '\\$&');
}
