/** The one number that a panel words itself, between two reports: as fwmagic/format.py does. */

/** Return a ratio to three digits, never with an exponent; just above 1 to three decimals. */
export function ratio(value: number): string {
  if (value === 0) {
    return '0';
  }
  if (value >= 0.9995 && value < 1.0995) {
    return value.toFixed(3);
  }
  const rounded = Number(value.toPrecision(3));
  return rounded.toFixed(Math.min(100, Math.max(0, 2 - Math.floor(Math.log10(rounded)))));
}
