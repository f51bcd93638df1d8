import { describe, expect, it } from 'vitest';

import { diff } from '../src/diff';

const lines = (...all: string[]): string => all.join('\n');

describe('diff', () => {
  it('has the changed lines with one around them, and a sign for what is left out', () => {
    const before = lines('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h');
    const after = lines('a', 'B', 'c', 'd', 'e', 'f', 'g', 'h', 'i');
    expect(diff(before, after)).toEqual(['  a', '- b', '+ B', '  c', '…', '  h', '+ i']);
  });

  it('is empty for equal texts', () => {
    expect(diff('a\nb', 'a\nb')).toEqual([]);
  });

  it('changes as few lines as can be', () => {
    expect(diff(lines('x', 'y', 'z'), lines('y', 'z', 'x'))).toEqual(['- x', '  y', '  z', '+ x']);
    expect(diff('', 'a')).toEqual(['- ', '+ a']);
  });

  it('takes a moment even for texts that nobody would write', () => {
    const long = (letter: string): string => Array.from({ length: 50_000 }, (_, i) => `${letter}${i}`).join('\n');
    const found = diff(long('a'), long('b'));
    expect(found.length).toBe(201);
    expect(found.at(-1)).toBe('…');
  });
});
