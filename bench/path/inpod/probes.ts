// Clients beside other traffic: each asks all the time, in turn over the connection that it keeps and over a new one.
// `probes.ts IP PORT COUNT` prints `ready` after a few requests of each, and on SIGTERM what the answers since then took, as JSON (ms).
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const [ip = '127.0.0.1', port = '80', count = '5'] = process.argv.slice(2);
/** Between two requests of a probe, ms. */
const PAUSE = 10;
const WARM_UP = 40;
/** An answer that takes longer counts as this much, ms. */
const PATIENCE = 5000;

const [kept, fresh]: [number[], number[]] = [[], []];
let failures = 0;
let asked = 0;
let stopping = false;
process.on('SIGTERM', () => (stopping = true));

const probes = Array.from({ length: Number(count) }, probe);
while (asked < WARM_UP * Number(count)) await sleep(PAUSE);
for (const times of [kept, fresh]) times.length = 0;
failures = 0;
process.stdout.write('ready\n');
await Promise.all(probes);
const worst = (times: readonly number[]): number => times.reduce((most, time) => Math.max(most, time), 0);
process.stdout.write(
  `${JSON.stringify({ requests: kept.length + fresh.length, failures, worstKept: worst(kept), worstNew: worst(fresh) })}\n`,
);
process.exit(0);

async function probe(): Promise<void> {
  let keptSocket: net.Socket | undefined;
  while (!stopping) {
    if (!keptSocket || keptSocket.destroyed) keptSocket = await opened();
    if (keptSocket) await timed(kept, keptSocket, performance.now(), 'keep-alive');
    await sleep(PAUSE);
    const since = performance.now();
    const socket = await opened();
    if (socket) await timed(fresh, socket, since, 'close');
    socket?.destroy();
    await sleep(PAUSE);
  }
}

async function opened(): Promise<net.Socket | undefined> {
  const socket = net.connect({ host: ip, port: Number(port) });
  socket.on('error', () => undefined);
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(PATIENCE) });
    return socket;
  } catch {
    socket.destroy();
    asked += 1;
    failures += 1;
    fresh.push(PATIENCE);
    return undefined;
  }
}

async function timed(times: number[], socket: net.Socket, since: number, connection: string): Promise<void> {
  socket.write(`GET / HTTP/1.1\r\nHost: ${ip}\r\nConnection: ${connection}\r\n\r\n`);
  try {
    await once(socket, 'data', { signal: AbortSignal.timeout(PATIENCE) });
    times.push(performance.now() - since);
  } catch {
    socket.destroy();
    failures += 1;
    times.push(PATIENCE);
  }
  asked += 1;
}
