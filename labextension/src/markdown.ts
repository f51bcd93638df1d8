/** A report as Markdown (GitHub's dialect), as fwmagic/report/text.py writes it. */

import { changes } from './changes';
import type { Report, Words } from './read';

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

/** Return two reports, the earlier one first, and what changed from the one to the other. */
export function pairToMarkdown(before: Report, after: Report): string {
  const found = changes(before, after);
  const rows = [...found.times, ...found.others].map(one => row([one.what, one.before, one.after].map(escaped)));
  const fence = '`'.repeat(Math.max(3, ...(found.code.join().match(/`+/g) ?? []).map(run => run.length + 1)));
  const blocks = [
    ...[before, after].map((report, i) => `## ${'①②'[i]}\n\n${report.words ? toMarkdown(report.words).trimEnd() : ''}`),
    '## What changed from ① to ②',
    `**${escaped(found.answer)}.**`,
    ...(rows.length > 0 ? [[row(['what', '①', '②']), row(['---', '---', '---']), ...rows].join('\n')] : []),
    ...(found.code.length > 0 ? [`${fence}diff\n${found.code.join('\n')}\n${fence}`] : [])
  ];
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
