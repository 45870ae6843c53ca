// What level- and edge-triggered epoll cost a thread that serves sockets, in the same rounds: `node bench/micro/triggering.ts [ROUNDS] [SECONDS]`.
// No Node loop and no TLS around it: epoll, reads and sends alone. Clients are a process of their own, and do not count.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Epoll } from '#shared/os/epoll.ts';
import { EPOLL, ERRNO } from '#shared/os/layout.ts';
import { acceptTcp, listenTcp } from '#shared/os/socket-factory.ts';
import { errno, libc } from '#shared/os/syscalls.ts';
import { medians } from '../statistics.ts';

const EPOLLET = 0x8000_0000;
const EPOLLRDHUP = 0x2000;
/** The peer will send nothing more, and that is told once only: what is left, and the end behind it, must be read now. */
const OVER = EPOLLRDHUP | EPOLL.HUP | EPOLL.ERR;
/** Id of the listener. */
const LISTENER = 0;
const SPACE = Buffer.alloc(64 * 1024);
/** Reads of one connection before others have their turn. */
const FAIR_READS = 4;

/** `messages`: 64 octets there and back on each of 16 connections. `bulk`: 4 connections that send whatever is taken, and nothing back. */
export type Load = 'messages' | 'bulk';
/**
 * `level`: one read per event; what is left is told again. `edge`: reads until the socket has no more, since it is told once only. `edge,
 * short`: takes a read that does not fill the space for the last one, which it is unless the peer
 * has ended: that needs EPOLLRDHUP.
 */
export type Trigger = 'level' | 'edge' | 'edge, short';
export const TRIGGERS: readonly Trigger[] = ['level', 'edge', 'edge, short'];

export interface Cost {
  /** us of CPU for each message, or s for each GB. */
  readonly cpu: number;
  /** System calls of this thread for each message or MB, of any kind. */
  readonly calls: number;
}

/** Serves one load to its end. */
export async function serve(load: Load, trigger: Trigger, seconds: number): Promise<Cost> {
  const listener = listenTcp({ address: { ip: '127.0.0.1', port: 0 } });
  const program = [join(import.meta.dirname, 'triggering-clients.ts'), load, String(listener.address.port), String(seconds)];
  const clients = spawn(process.execPath, program, { stdio: ['ignore', 'inherit', 'inherit'] });
  const exit = once(clients, 'exit');
  const loop = new Loop(listener.fd, load, trigger);
  const before = process.cpuUsage();
  loop.run();
  const { user, system } = process.cpuUsage(before);
  libc().close(listener.fd);
  await exit;
  const units = load === 'messages' ? loop.messages : loop.bytes / 1e9;
  return {
    cpu: (user + system) / units / (load === 'messages' ? 1 : 1e6),
    calls: loop.calls / (load === 'messages' ? units : units * 1000),
  };
}

/** Blocks the thread until all clients have come and gone. */
class Loop {
  messages = 0;
  bytes = 0;
  calls = 0;
  readonly #listener: number;
  readonly #load: Load;
  readonly #trigger: Trigger;
  readonly #epoll = new Epoll();
  #open = 0;
  #served = 0;
  /** With what was told of them. Edge: one may have more to read, and nobody will say so again. */
  #ready = new Map<number, number>();

  constructor(listener: number, load: Load, trigger: Trigger) {
    this.#listener = listener;
    this.#load = load;
    this.#trigger = trigger;
    this.#epoll.add(listener, LISTENER, EPOLL.IN);
  }

  run(): void {
    while (this.#served === 0 || this.#open > 0) {
      this.calls++;
      this.#epoll.wait(this.#ready.size > 0 ? 0 : 1000, (id, mask) =>
        id === LISTENER ? this.#accept() : void this.#ready.set(id, mask),
      );
      const ready = this.#ready;
      this.#ready = new Map();
      for (const [fd, mask] of ready) this.#read(fd, mask);
    }
    this.#epoll.close();
  }

  #accept(): void {
    const socket = acceptTcp(this.#listener);
    if (!socket) return;
    // The descriptor is its own id: none is used again while this load runs.
    this.#epoll.add(socket.fd, socket.fd, (EPOLL.IN | (this.#trigger === 'level' ? 0 : EPOLLET | EPOLLRDHUP)) >>> 0);
    this.#open++;
    this.#served++;
  }

  #read(fd: number, mask: number): void {
    for (let reads = 0; ; reads++) {
      if (reads > 0 && this.#trigger === 'level') return;
      if (reads === FAIR_READS) return void this.#ready.set(fd, mask);
      this.calls++;
      const count = libc().read(fd, SPACE, SPACE.length);
      if (count < 0 && errno() === ERRNO.EAGAIN) return;
      // An end, or the reset of a client that left with something unread.
      if (count <= 0) {
        libc().close(fd);
        this.#open--;
        return;
      }
      this.bytes += count;
      if (this.#load === 'messages') {
        this.messages++;
        this.calls++;
        libc().send(fd, SPACE, count, 0);
      }
      if (this.#trigger === 'edge, short' && count < SPACE.length && (mask & OVER) === 0) return;
    }
  }
}

if (import.meta.main) {
  const [rounds = 5, seconds = 2] = process.argv.slice(2).map(Number);
  for (const load of ['messages', 'bulk'] as const) {
    const taken = new Map<Trigger, Record<string, number>[]>(TRIGGERS.map((trigger) => [trigger, []]));
    // The first round compiles, and does not count.
    for (let round = 0; round <= rounds; round++)
      for (const trigger of round % 2 === 0 ? TRIGGERS : TRIGGERS.toReversed()) {
        const cost = await serve(load, trigger, round === 0 ? 1 : seconds);
        if (round > 0) taken.get(trigger)?.push({ ...cost });
      }
    for (const [trigger, samples] of taken) {
      const { cpu = NaN, calls = NaN } = medians(samples);
      const all = samples.map((sample) => sample['cpu']?.toFixed(2)).join(' ');
      const unit = load === 'messages' ? ['us CPU/message', 'calls/message'] : ['CPU s/GB', 'calls/MB'];
      process.stdout.write(
        `${load.padEnd(9)} ${trigger.padEnd(12)} ${cpu.toFixed(2)} ${unit[0]} (${all}), ${calls.toFixed(2)} ${unit[1]}\n`,
      );
    }
  }
}
