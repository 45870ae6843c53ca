// Full mutual handshakes on one thread: `handshake.ts SECONDS` prints {pairs, cpuPerPair (us, both ends and their TCP), perSecond}.
import type { Pair } from './pairs.ts';
import { TlsPairs } from './pairs.ts';

const [seconds = '2'] = process.argv.slice(2);
const PARALLEL = 8;
/** Until the code is compiled. */
const WARM_UP = 400;

using pairs = await TlsPairs.open();
await shakeHands(() => WARM_UP);
const [started, cpu] = [performance.now(), process.cpuUsage()];
const end = started + Number(seconds) * 1000;
const done = await shakeHands((count) => (performance.now() < end ? Infinity : count));
const { user, system } = process.cpuUsage(cpu);
const took = (performance.now() - started) / 1000;
process.stdout.write(`${JSON.stringify({ pairs: done, cpuPerPair: (user + system) / done, perSecond: done / took })}\n`);

/** Until as many are done as `wanted` says, asked after each; how many that were. */
async function shakeHands(wanted: (count: number) => number): Promise<number> {
  let count = 0;
  const one = async (): Promise<void> => {
    while (count < wanted(count)) {
      close(await pairs.next());
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, one));
  return count;
}

/** A reset leaves no port in TIME_WAIT. */
function close({ client, server }: Pair): void {
  for (const conn of [client, server]) {
    conn.start({ onData: () => undefined, onEnd: () => undefined, onDrain: () => undefined, onClose: () => undefined });
    conn.reset();
  }
}
