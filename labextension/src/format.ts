/** Numbers in words, as fwmagic/format.py words them. */

const TIMES: [number, string][] = [
  [1, 's'],
  [1e-3, 'ms'],
  [1e-6, 'µs'],
  [1e-9, 'ns']
];
const BYTES: [number, string][] = [
  [1024 ** 4, 'TiB'],
  [1024 ** 3, 'GiB'],
  [1024 ** 2, 'MiB'],
  [1024, 'KiB']
];

/** Return `value` to three significant digits, never with an exponent. */
export function digits(value: number): string {
  if (value === 0) {
    return '0';
  }
  const rounded = Number(value.toPrecision(3));
  const after = 2 - Math.floor(Math.log10(Math.abs(rounded)));
  return rounded.toFixed(Math.min(100, Math.max(0, after)));
}

/** Return a time given in seconds: `1.23 ms`. */
export function seconds(value: number): string {
  const fitting = TIMES.find(([scale]) => Math.abs(value) >= 0.9995 * scale) ?? TIMES[TIMES.length - 1];
  const [scale, unit] = value === 0 ? TIMES[0] : fitting;
  return `${digits(value / scale)} ${unit}`;
}

/** Return a ratio to three digits; just above 1 to three decimals. */
export function ratio(value: number): string {
  return value >= 0.9995 && value < 1.0995 ? value.toFixed(3) : digits(value);
}

/** Return bytes in binary units: `512 B`, `1.50 MiB`. */
export function size(count: number): string {
  const fitting = BYTES.find(([scale]) => Math.abs(count) >= 0.9995 * scale);
  return fitting === undefined ? `${count} B` : `${digits(count / fitting[0])} ${fitting[1]}`;
}
