/** What a panel words itself, as fwmagic/format.py does: the ratio of two runs, a time of day, and a text cut short. */

/** Return a ratio to three digits, never with an exponent; just above 1 to three decimals. */
export function ratio(value: number, count = 3): string {
  if (value === 0) {
    return '0';
  }
  if (value >= 0.9995 && value < 1.0995) {
    return value.toFixed(count);
  }
  const rounded = Number(value.toPrecision(count));
  return rounded.toFixed(Math.min(100, Math.max(0, count - 1 - Math.floor(Math.log10(rounded)))));
}

/** Return two ratios as a span, of as many digits as tell them apart; of one that six do not, the one. */
export function between(low: number, high: number): string {
  const count = [3, 4, 5, 6].find(digits => ratio(low, digits) !== ratio(high, digits));
  return count === undefined ? ratio(low) : `${ratio(low, count)}-${ratio(high, count)}`;
}

/** Return a time of day as the output of a cell has it: `13:05:22`. */
export function clock(date: Date): string {
  return date.toTimeString().slice(0, 8);
}

/** Return a text of at most so many characters, cut after a word, unless its last one is as long as half of it. */
export function cut(text: string, most: number): string {
  if (text.length <= most) {
    return text;
  }
  const end = text.lastIndexOf(' ', most - 1);
  return `${text.slice(0, end >= most / 2 ? end : most - 1).replace(/[ ,;:(]+$/, '')}…`;
}
