// Whether this process sleeps: a loop that spins does so in every window, what else a process has to do (garbage, compiling) does not.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';

const WINDOW = 80;
const TRIES = 6;
/** Of one core. */
const ENOUGH = 0.3;

export async function isAsleep(t: Pick<Test, 'ok'>, what = 'the thread sleeps'): Promise<void> {
  const shares: number[] = [];
  do {
    const [before, started] = [process.cpuUsage(), performance.now()];
    await sleep(WINDOW);
    const { user, system } = process.cpuUsage(before);
    shares.push((user + system) / 1000 / (performance.now() - started));
  } while (Math.min(...shares) > ENOUGH && shares.length < TRIES);
  t.ok(Math.min(...shares) <= ENOUGH, `${what}: ${shares.map((share) => `${Math.round(share * 100)} %`).join(', ')} of a core`);
}
