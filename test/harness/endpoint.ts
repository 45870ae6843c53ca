// One end of a TCP connection as an application has it, and what it sees of the other: bytes, an end, a reset.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostPort } from '#shared/address.ts';
import { i32, SOL } from '#shared/os/layout.ts';
import { libc } from '#shared/os/syscalls.ts';
import type { TestPod } from './pod-net.ts';

/** A socket option: nine words, of which the first is the memory of what came and was not read (asm-generic/socket.h). */
const SO_MEMINFO = 55;

/** How long something may take to be seen, ms. */
const PATIENCE = 4000;

export class Endpoint {
  readonly socket: Socket;
  bytes = 0;
  /** In order, each once. */
  readonly seen: ('end' | 'reset' | 'closed')[] = [];
  /** The error behind a reset. */
  code = '';

  /**
   * Resolves once the connection is there, or has been: who accepted it may have reset it before the application hears of it. Rejects when
   * it was refused.
   */
  static async open(pod: Pick<TestPod, 'dial'>, to: HostPort): Promise<Endpoint> {
    const end = new Endpoint(pod.dial(to));
    try {
      await once(end.socket, 'connect');
    } catch (error) {
      if (end.code !== 'ECONNRESET') throw error;
      await end.until('closed');
    }
    return end;
  }

  /** Reads from now on. */
  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => (this.bytes += chunk.length));
    socket.on('end', () => this.seen.push('end'));
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.code = error.code ?? error.message;
      this.seen.push('reset');
    });
    socket.on('close', () => this.seen.push('closed'));
  }

  async until(what: 'end' | 'reset' | 'closed'): Promise<void> {
    await this.#wait(() => this.seen.includes(what), what);
  }

  async untilBytes(count: number): Promise<void> {
    await this.#wait(() => this.bytes >= count, `${count} bytes`);
  }

  /** Until the kernel has bytes that nobody reads: the socket was paused, and more was sent than it takes by itself (64 KiB). */
  async untilUnread(): Promise<void> {
    await this.#wait(() => unread(this.socket) > 0, 'bytes that are not read');
  }

  /** True when so many bytes have come, false when the connection has ended before that. */
  async gets(count: number): Promise<boolean> {
    await this.#wait(() => this.bytes >= count || this.seen.includes('closed'), `${count} bytes or the end`);
    return this.bytes >= count;
  }

  /** Writes a little again and again until the reset comes: who has read the end hears of it only so. */
  async writeUntilReset(): Promise<void> {
    await this.#wait(() => {
      if (this.socket.writable) this.socket.write('x');
      return this.seen.includes('reset');
    }, 'a reset');
  }

  async #wait(ready: () => boolean, what: string): Promise<void> {
    for (const end = performance.now() + PATIENCE; !ready(); await sleep(3))
      if (performance.now() > end)
        throw new Error(`waited for ${what}; saw ${this.bytes} bytes, ${this.seen.join(', ')} ${this.code}`);
  }
}

function unread(socket: Socket): number {
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  const words = Buffer.alloc(36);
  libc().getsockopt(fd, SOL.SOCKET, SO_MEMINFO, words, i32(words.length));
  return words.readUInt32LE();
}
