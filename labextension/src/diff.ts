/** The lines in which two texts differ, each with its sign, and a line around them. */

/** More lines than these are not compared pair by pair, and more changed ones are not shown. */
const MOST_COMPARED = 2000;
const MOST_SHOWN = 200;

/** Return changed lines as `- old` and `+ new` with one `  line` before and after; `…` stands for lines left out. */
export function diff(before: string, after: string): string[] {
  if (before === after) {
    return [];
  }
  const all = signed(before.split('\n'), after.split('\n'));
  const near = (i: number): boolean => all.slice(Math.max(0, i - 1), i + 2).some(line => !line.startsWith(' '));
  const shown = all.flatMap((line, i) => (near(i) ? [line] : i > 0 && near(i - 1) && i < all.length - 1 ? ['…'] : []));
  return shown.length > MOST_SHOWN ? [...shown.slice(0, MOST_SHOWN), '…'] : shown;
}

/** Return all lines with their signs. */
function signed(old: string[], now: string[]): string[] {
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) {
    start++;
  }
  let end = 0;
  while (end < old.length - start && end < now.length - start && old.at(-1 - end) === now.at(-1 - end)) {
    end++;
  }
  const [left, right] = [old, now].map(lines => lines.slice(start, lines.length - end));
  const middle =
    left.length > MOST_COMPARED || right.length > MOST_COMPARED
      ? [...left.map(line => `- ${line}`), ...right.map(line => `+ ${line}`)]
      : aligned(left, right);
  const same = (line: string): string => `  ${line}`;
  return [...old.slice(0, start).map(same), ...middle, ...old.slice(old.length - end).map(same)];
}

/** Return the lines in the order in which the fewest change: by their longest common part. */
function aligned(old: string[], now: string[]): string[] {
  const common = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1));
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      common[i][j] = old[i] === now[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    }
  }
  const lines: string[] = [];
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      lines.push(`  ${old[i++]}`);
      j++;
    } else if (j === now.length || (i < old.length && common[i + 1][j] >= common[i][j + 1])) {
      lines.push(`- ${old[i++]}`);
    } else {
      lines.push(`+ ${now[j++]}`);
    }
  }
  return lines;
}
