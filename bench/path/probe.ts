// The time of a new connection: from connect(2) to the first byte of the answer. Runs in a client's pod: `probe.ts IP PORT COUNT`.
// Blocking system calls, so that no event loop is part of what is measured.
import { setTimeout as sleep } from 'node:timers/promises';
import { check, libc } from '#shared/os/syscalls.ts';
import { quantile } from '../statistics.ts';

const [ip = '127.0.0.1', port = '80', count = '200'] = process.argv.slice(2);
const AF_INET = 2;
const SOCK_STREAM = 1;
const [SOL_SOCKET, SO_RCVTIMEO] = [1, 20];
/** Between two connections, ms. */
const PAUSE = 3;
/** The first ones compile code and open the tunnel. */
const WARM_UP = 20;

const address = Buffer.alloc(16);
address.writeUInt16LE(AF_INET, 0);
address.writeUInt16BE(Number(port), 2);
address.set(ip.split('.').map(Number), 4);
const request = Buffer.from(`GET / HTTP/1.1\r\nHost: ${ip}\r\nConnection: close\r\n\r\n`);
const answer = Buffer.alloc(4096);
/** struct timeval: two seconds. */
const patience = Buffer.alloc(16);
patience.writeBigInt64LE(2n);

const times: number[] = [];
for (let index = 0; index < WARM_UP + Number(count); index += 1) {
  const took = probe();
  if (index >= WARM_UP) times.push(took);
  await sleep(PAUSE);
}
process.stdout.write(`${JSON.stringify({ p50: quantile(times, 0.5), p99: quantile(times, 0.99) })}\n`);

/** Microseconds. */
function probe(): number {
  const system = libc();
  const fd = check(system.socket(AF_INET, SOCK_STREAM, 0), 'probe', 'socket');
  check(system.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, patience, patience.length), 'probe', 'setsockopt');
  const start = process.hrtime.bigint();
  check(system.connect(fd, address, address.length), `probe of ${ip}:${port}`, 'connect');
  check(system.send(fd, request, request.length, 0), `probe of ${ip}:${port}`, 'send');
  const got = check(system.read(fd, answer, answer.length), `probe of ${ip}:${port}`, 'read');
  const took = Number(process.hrtime.bigint() - start) / 1000;
  if (got === 0) throw new Error(`probe of ${ip}:${port}: closed without an answer`);
  while (system.read(fd, answer, answer.length) > 0);
  system.close(fd);
  return took;
}
