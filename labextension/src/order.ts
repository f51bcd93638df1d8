/** Rows of a table in the order of one of its columns, by the size of its figures whatever their units. */

const UNITS: Partial<Record<string, number>> = {
  ns: 1e-9,
  µs: 1e-6,
  ms: 1e-3,
  s: 1,
  min: 60,
  h: 3600,
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  k: 1e3,
  M: 1e6,
  G: 1e9
};

export interface Order {
  readonly column: number;
  readonly descending: boolean;
}

/** Return the rows in this order, those without a figure last; of equal ones, the order stays. */
export function ordered<T extends readonly string[]>(rows: readonly T[], order: Order | null): readonly T[] {
  if (order === null) {
    return rows;
  }
  const sign = order.descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [one, other] = [a.at(order.column) ?? '', b.at(order.column) ?? ''];
    const [x, y] = [size(one), size(other)];
    if (Number.isNaN(x) || Number.isNaN(y)) {
      return Number(Number.isNaN(x)) - Number(Number.isNaN(y)) || sign * one.localeCompare(other);
    }
    return sign * (x - y);
  });
}

/** Return the figure that a cell begins with, in the base of its unit; NaN if it begins with none. */
function size(cell: string): number {
  const found = /^\+?(\d[\d.]*)(?: to \d[\d.]*)? ?([a-zA-Zµ]*)/.exec(cell);
  return found === null ? NaN : Number(found[1]) * (UNITS[found[2]] ?? 1);
}
