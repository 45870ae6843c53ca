// How many data workers a proxy has, as people write it: Istio's forms, and none.
import type { EnvReader } from '../env.ts';

/** The main thread stays free for admin pages and configuration (docs/decisions/0006-data-workers.md). */
export const DEFAULT_WORKERS = '50%';
/** The most threads that a number may ask for. */
const MAX_WORKERS = 256;

/** Of a number, a share of the cores (rounded down, at least one), 0 for all of them, or `main` for none, which is 0. Faults name the variable. */
export function threadCount(read: EnvReader, variable: string, text: string, cores: number): number {
  if (text === 'main') return 0;
  const [, amount, percent] = /^(\d{1,4})(%?)$/u.exec(text) ?? [];
  const value = Number(amount);
  if (amount === undefined || (percent === '%' ? value < 1 || value > 100 : value > MAX_WORKERS)) {
    read.faults.push(
      `${variable}="${text}": not a number of threads up to ${MAX_WORKERS} (0: one for each core), 1% to 100% of the cores, or main`,
    );
    return 0;
  }
  if (percent === '%') return Math.max(1, Math.floor((cores * value) / 100));
  return value === 0 ? cores : value;
}
