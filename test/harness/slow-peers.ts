// Ends of connections that take their time, and a measure of whether others have to wait for them.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { HostPort } from '#shared/address.ts';
import type { TestPod } from './pod-net.ts';

/** A TLS record of 512 bytes is announced, and comes a byte at a time. */
const RECORD = Buffer.from([0x16, 3, 3, 2, 0]);

/** Sends it for as long as anybody listens. */
export function drip(socket: Socket): void {
  socket.write(RECORD);
  const timer = setInterval(() => socket.write('\0'), 300);
  socket.once('close', () => clearInterval(timer));
}

/** Round trips through a tunnel until told to stop; the slowest, ms. */
export async function probes(client: TestPod, to: HostPort, stop: AbortSignal): Promise<number> {
  const socket = await client.connect(to);
  for (let slowest = 0; ;) {
    const started = performance.now();
    socket.write('?');
    await once(socket, 'data');
    slowest = Math.max(slowest, performance.now() - started);
    if (stop.aborted) return slowest;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
