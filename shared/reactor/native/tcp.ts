// A TCP connection over its descriptor: reads go straight where the handler wants them, writes go straight to the kernel, and only what
// the kernel refuses is copied and kept.
import { formatHostPort, type HostPort } from '../../address.ts';
import type { IdTable } from '../../collections/id-table.ts';
import { MeshError } from '../../errors.ts';
import { SystemError } from '../../os/errno.ts';
import type { Waiting } from '../../lifecycle/deadlines.ts';
import { EPOLL, ERRNO, MSG, SHUT_WR } from '../../os/layout.ts';
import { originalDestination } from '../../os/original-dst.ts';
import { localAddress, resetOnClose, socketError } from '../../os/socket-factory.ts';
import { errno, libc } from '../../os/syscalls.ts';
import { tcpInfo } from '../../os/tcp-info.ts';
import type { CloseReason, Conn, Detachable, DetachedConn, ReadableListener, StreamHandler } from '../api.ts';
import { handlerFault } from '../fault.ts';
import type { Loop, Watch } from './loop.ts';
import { Unsent } from './unsent.ts';

/** Bytes held back for the kernel at which write() asks for a pause. */
export const HIGH_WATER = 64 * 1024;
/** What is left of a turn's share below this is not worth a system call, nor the record and the packet that so little makes. */
const SMALLEST_READ = 16 * 1024;
const NOWHERE: HostPort = { ip: '0.0.0.0', port: 0 };

// Bits of a connection's state. A field for each would take eight bytes, and a node has tens of thousands of connections.
const WATCHED = 1;
const PAUSED = 2;
const WANTS_DRAIN = 4;
/** The peer has ended. */
const READ_ENDED = 8;
/** end() was called, and the kernel has not taken everything yet. */
const ENDING = 16;
const WRITE_ENDED = 32;
/** onClose() was called. */
const TOLD = 64;
/** What epoll watches, beside errors. */
const WATCHES_IN = 128;
const WATCHES_OUT = 256;
/** The peer has sent urgent data (MSG_OOB). */
const URGENT = 512;

export class NativeConn implements Conn, Detachable, Watch, Waiting {
  readonly id: number;
  readonly remote: HostPort;
  due = 0;
  readonly #fd: number;
  readonly #loop: Loop;
  readonly #all: IdTable<NativeConn>;
  #handler: StreamHandler | undefined;
  #state = 0;
  #local: HostPort | undefined;
  #unsent: Unsent | undefined;
  /** What a send was told is wrong with the connection, an errno. The kernel says so once: to who reads, that looks like an end. */
  #sendError = 0;
  #closed: CloseReason | undefined;
  /** Of one that was not started. */
  #early: ReadableListener | undefined;

  /** Takes the descriptor over, and the loop's watch of it when there is one. `all` are the reactor's books. */
  constructor(loop: Loop, fd: number, remote: HostPort, all: IdTable<NativeConn>, watch: Watch | undefined) {
    this.id = watch?.id ?? loop.newId();
    this.#loop = loop;
    this.#fd = fd;
    this.remote = remote;
    this.#all = all;
    loop.own(fd);
    if (!watch) return;
    this.#state |= WATCHED | WATCHES_OUT;
    loop.pass(watch, this);
  }

  /** Asked for by few, and kept from then on; a closed connection has none. */
  get local(): HostPort {
    if (!this.#closed) this.#local ??= localAddress(this.#fd);
    return this.#local ?? NOWHERE;
  }

  get buffered(): number {
    return this.#unsent?.length ?? 0;
  }

  /** Segments count as full ones. */
  get unacknowledged(): number {
    if (this.#closed) return 0;
    const { unsent, unacknowledged, segmentSize } = tcpInfo(this.#fd);
    return this.buffered + unsent + unacknowledged * segmentSize;
  }

  originalDestination(): HostPort {
    return (this.#closed ? undefined : originalDestination(this.#fd)) ?? this.local;
  }

  readEarly(limit: number): Uint8Array | undefined {
    if (this.#closed || this.#handler) return undefined;
    const space = this.#loop.scratch.subarray(0, limit);
    const count = libc().read(this.#fd, space, space.length);
    // An error is told once, and would look like an end to the next read.
    if (count < 0) this.#noteError(errno());
    return count > 0 ? Buffer.from(space.subarray(0, count)) : undefined;
  }

  whenReadable(listener: ReadableListener | undefined): void {
    this.#early = listener;
    this.#watch();
  }

  start(handler: StreamHandler): void {
    this.#early = undefined;
    this.#handler = handler;
    if (this.#closed) return this.#loop.defer(() => this.#tell());
    return this.#watch();
  }

  write(chunk: Uint8Array, last = false): boolean {
    if (this.#closed || this.#is(ENDING)) return true;
    const sent = this.#waits ? 0 : this.#send(chunk, last);
    if (sent < chunk.length) {
      this.#unsent ??= new Unsent(this.#loop.slabs);
      this.#unsent.push(sent === 0 ? chunk : chunk.subarray(sent));
      if (this.#unsent.length >= HIGH_WATER) this.#state |= WANTS_DRAIN;
      this.#watch();
    }
    return !this.#is(WANTS_DRAIN);
  }

  end(): void {
    if (this.#closed || this.#is(ENDING)) return;
    this.#state |= ENDING;
    if (!this.#waits) this.#finishWriting();
  }

  reset(): void {
    if (this.#closed) return;
    resetOnClose(this.#fd);
    this.#close({ kind: 'reset', remote: false });
  }

  pause(): void {
    this.#state |= PAUSED;
    this.#watch();
  }

  resume(): void {
    this.#state &= ~PAUSED;
    if (!this.#is(WATCHED)) this.#loop.hungUp.delete(this);
    this.#watch();
  }

  /** Also when a send was told so: the kernel says it once, and nobody else would hear of it. */
  get over(): boolean {
    return this.#closed !== undefined || this.#sendError !== 0;
  }

  /** An end that the peer has told is told again by the kernel to whoever reads next. */
  detach(): DetachedConn {
    this.#closed = { kind: 'ended' };
    this.#state |= TOLD;
    this.#unwatch();
    this.#loop.disown(this.#fd);
    const unsent = this.#unsent?.copy() ?? Buffer.alloc(0);
    this.#forget();
    return { fd: this.#fd, remote: this.remote, unsent };
  }

  onEvents(mask: number): void {
    if (mask & EPOLL.PRI) this.#noteUrgent();
    if (!this.#handler) return this.#tellEarly();
    if (mask & EPOLL.ERR) return this.#broken();
    if (mask & EPOLL.OUT) this.#flush();
    if (this.#closed) return undefined;
    if (mask & EPOLL.IN && !this.#is(PAUSED)) this.#readOn((mask & EPOLL.RDHUP) !== 0 && !this.#is(URGENT));
    else if (mask & EPOLL.HUP) this.#hangUp();
    return undefined;
  }

  onFault(thrown: unknown): MeshError {
    const error = handlerFault(this.remote, thrown);
    if (!this.#closed) resetOnClose(this.#fd);
    this.#close({ kind: 'error', error });
    return error;
  }

  /** The connection is over, but what came before that, perhaps the reason, is still in the kernel's queue and is read first. */
  #broken(): void {
    while (!this.#closed && !this.#is(PAUSED) && this.#read() > 0);
    if (this.#closed) return;
    if (!this.#is(PAUSED) || this.#is(READ_ENDED))
      return this.#fail(this.#sendError || socketError(this.#fd) || ERRNO.ECONNRESET);
    this.#hangUp();
    return this.#loop.hungUp.add(this);
  }

  /** It has been broken for long, and its reader is still paused. */
  onDeadline(): void {
    if (!this.#closed) this.#fail(this.#sendError || socketError(this.#fd) || ERRNO.ECONNRESET);
  }

  /**
   * A handler that takes little at a time gets more in the same turn, up to what one read may take from the others. `ending`: the peer has
   * ended, and the end is told in the same turn as the last bytes. So both go on together, and whoever ended first is seen to have: a client
   * that had to end first for want of the other's end would keep its port for a minute (TIME_WAIT), of which it has some 28,000.
   */
  #readOn(ending: boolean): void {
    let left = this.#loop.readShare;
    do {
      const free = this.#handler?.buffer?.() ?? this.#loop.scratch;
      const space = free.length > left ? free.subarray(0, left) : free;
      const count = this.#read(space, ending);
      if (count < space.length) return;
      left -= count;
    } while (left >= SMALLEST_READ && !this.#is(PAUSED) && !this.#closed);
  }

  /** Bytes read. `ending`: the peer has ended, and sent nothing urgent, so that what does not fill the space is the last. */
  #read(space = this.#handler?.buffer?.() ?? this.#loop.scratch, ending = false): number {
    const handler = this.#handler;
    if (!handler || this.#is(READ_ENDED)) return 0;
    const count = libc().read(this.#fd, space, space.length);
    if (count > 0) {
      const last = ending && count < space.length;
      handler.onData(space.subarray(0, count), last);
      if (last && this.#handler && !this.#closed && !this.#is(PAUSED)) this.#nothingMore(this.#handler);
    } else if (count === 0) this.#nothingMore(handler);
    else this.#failUnlessAgain(errno());
    return count;
  }

  /** Of a peer that had ended before it broke the connection, a send is told EPIPE (Linux, tcp_reset()); and of one that had not, its error. */
  #nothingMore(handler: StreamHandler): void {
    const lost = this.#sendError !== 0 && this.#sendError !== ERRNO.EPIPE;
    return lost ? this.#fail(this.#sendError) : this.#endOfInput(handler);
  }

  #endOfInput(handler: StreamHandler): void {
    this.#state |= READ_ENDED;
    handler.onEnd();
    this.#closeIfEnded();
    // Most connections are over by now, and epoll need not hear of those.
    this.#watch();
  }

  /**
   * A read stops in front of an urgent octet, and the next one drops that: from now on one that is short says nothing of the end. Not watched
   * for again, because the kernel goes on telling of it until it is passed, and a peer may have left a hole in front of it.
   */
  #noteUrgent(): void {
    this.#state = (this.#state | URGENT) & ~WATCHES_IN;
    this.#watch();
  }

  /** Not started yet. What nobody takes would be told in every turn, what the connect was watched for too: not watched until then. */
  #tellEarly(): void {
    const listener = this.#early;
    this.#early = undefined;
    if (listener) listener.onReadable();
    else this.#unwatch();
  }

  /** Nothing more will come, which a level-triggered epoll tells a paused reader again and again: watched again when it resumes. */
  #hangUp(): void {
    if (!this.#is(PAUSED) || this.#is(READ_ENDED)) return;
    this.#unwatch();
  }

  /** Bytes that the kernel took, 0 when it is full or the connection is broken: then the next event says so. */
  #send(chunk: Uint8Array, last: boolean): number {
    if (chunk.length === 0) return 0;
    // Held for the FIN that follows, which goes out with it: a packet less, and a wake-up of the peer's.
    const more = last ? MSG.MORE : 0;
    const sent = libc().send(this.#fd, chunk, chunk.length, MSG.DONTWAIT | MSG.NOSIGNAL | more);
    if (sent >= 0) return sent;
    this.#noteError(errno());
    return 0;
  }

  #noteError(code: number): boolean {
    if (code === ERRNO.EAGAIN || code === ERRNO.EINTR) return false;
    this.#sendError ||= code;
    return true;
  }

  #flush(): void {
    if (this.#unsent && !this.#sendOn(this.#unsent)) return;
    this.#unsent = undefined;
    this.#watch();
    if (this.#is(WANTS_DRAIN)) {
      this.#state &= ~WANTS_DRAIN;
      if (!this.#is(ENDING)) this.#handler?.onDrain();
    }
    if (this.#is(ENDING) && !this.#is(WRITE_ENDED) && !this.#closed && !this.#waits) this.#finishWriting();
  }

  /** False when the kernel is full, or the connection broken. */
  #sendOn(unsent: Unsent): boolean {
    for (let chunk = unsent.next; chunk; chunk = unsent.next) {
      const sent = libc().send(this.#fd, chunk, chunk.length, MSG.DONTWAIT | MSG.NOSIGNAL);
      if (sent < 0) {
        if (this.#noteError(errno())) this.#broken();
        return false;
      }
      unsent.drop(sent);
    }
    return true;
  }

  #is(bit: number): boolean {
    return (this.#state & bit) !== 0;
  }

  /** Bytes wait for the kernel. */
  get #waits(): boolean {
    return this.#unsent !== undefined;
  }

  #finishWriting(): void {
    this.#state |= WRITE_ENDED;
    // close(2) sends the FIN when nothing more is to be read.
    if (!this.#is(READ_ENDED)) libc().shutdown(this.#fd, SHUT_WR);
    this.#closeIfEnded();
  }

  #closeIfEnded(): void {
    if (this.#is(READ_ENDED) && this.#is(WRITE_ENDED)) this.#close({ kind: 'ended' });
  }

  #failUnlessAgain(code: number): void {
    if (code !== ERRNO.EAGAIN && code !== ERRNO.EINTR) this.#fail(code);
  }

  #fail(code: number): void {
    if (code === ERRNO.ECONNRESET || code === ERRNO.EPIPE) return this.#close({ kind: 'reset', remote: true });
    const cause = new SystemError('connection', code);
    const error = new MeshError('reset', `${formatHostPort(this.remote)}: ${cause.message}`, { cause });
    return this.#close({ kind: 'error', error });
  }

  /** onClose comes in a turn of its own, because most ways here start in a call of the user's. */
  #close(reason: CloseReason): void {
    if (this.#closed) return;
    this.#closed = reason;
    this.#unwatch(true);
    this.#loop.disown(this.#fd);
    libc().close(this.#fd);
    this.#forget();
    this.#loop.defer(() => this.#tell());
  }

  #forget(): void {
    this.#unsent?.release();
    this.#unsent = undefined;
    this.#all.delete(this);
    this.#loop.hungUp.delete(this);
  }

  #unwatch(closing = false): void {
    if (this.#is(WATCHED)) this.#loop.unwatch(this.#fd, this, closing);
    this.#state &= ~WATCHED;
  }

  #tell(): void {
    if (this.#is(TOLD) || !this.#closed || !this.#handler) return;
    this.#state |= TOLD;
    try {
      this.#handler.onClose(this.#closed);
    } catch (thrown) {
      this.#loop.report(handlerFault(this.remote, thrown));
    }
  }

  /** Brings what epoll watches in line with the state. Errors are always watched once the stream was started. */
  #watch(): void {
    if (this.#closed || !(this.#handler ?? this.#early)) return;
    const wanted = (this.#is(PAUSED) || this.#is(READ_ENDED) ? 0 : WATCHES_IN) | (this.#waits ? WATCHES_OUT : 0);
    const changes = wanted !== (this.#state & (WATCHES_IN | WATCHES_OUT));
    if (this.#is(WATCHED) && !changes) return;
    const read = EPOLL.IN | EPOLL.RDHUP | (this.#is(URGENT) ? 0 : EPOLL.PRI);
    const mask = (wanted & WATCHES_IN ? read : 0) | (wanted & WATCHES_OUT ? EPOLL.OUT : 0);
    if (this.#is(WATCHED)) this.#loop.change(this.#fd, this, mask);
    else this.#loop.watch(this.#fd, mask, this);
    this.#state = (this.#state & ~(WATCHES_IN | WATCHES_OUT)) | WATCHED | wanted;
  }
}
