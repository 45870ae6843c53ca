// Opening a TCP connection: with a deadline, and a way to give up.
import { formatHostPort } from '../../address.ts';
import { systemClock, type Timer } from '../../clock.ts';
import { MeshError } from '../../errors.ts';
import type { CancelListener, CancelSignal } from '../../lifecycle/cancel.ts';
import { Deadlines, type Waiting } from '../../lifecycle/deadlines.ts';
import { Specimens } from '../../lifecycle/specimens.ts';
import { systemError } from '../../os/errno.ts';
import { EPOLL, ERRNO } from '../../os/layout.ts';
import { clientTcp, mayHaveAnotherPort, socketError, startConnect } from '../../os/socket-factory.ts';
import { libc } from '../../os/syscalls.ts';
import type { ConnectOptions } from '../api.ts';
import type { Loop, Watch } from './loop.ts';

const DEFAULT_TIMEOUT = 10_000;

/** A connected descriptor. `watch`: by which the loop watches it, if it does. */
export interface ConnectedSocket {
  readonly fd: number;
  readonly watch: Watch | undefined;
}

/** Opens the connections of one reactor. */
export class Connector {
  readonly #loop: Loop;
  readonly #closed: CancelSignal;
  readonly #deadlines = new Deadlines(systemClock, DEFAULT_TIMEOUT);
  readonly #specimens = new Specimens();

  /** `closed` is the reactor's end. */
  constructor(loop: Loop, closed: CancelSignal) {
    this.#loop = loop;
    this.#closed = closed;
  }

  /** At once, when the peer has answered at once. Rejects with connect_failed, connect_timeout, or the reason of whatever cancels it. */
  open(options: ConnectOptions): ConnectedSocket | Promise<ConnectedSocket> {
    const reason = this.#closed.reason ?? options.cancel?.reason;
    if (reason) return Promise.reject(reason);
    const attempt = new Attempt(this.#loop, options, this.#deadlines, this.#closed);
    this.#specimens.keep('attempt', attempt);
    return attempt.connected ?? attempt.done;
  }
}

/** One connect(2) under way. */
class Attempt implements Watch, CancelListener, Waiting {
  readonly id: number;
  due = 0;
  /** Set when it was over at once. */
  connected: ConnectedSocket | undefined;
  readonly #loop: Loop;
  readonly #options: ConnectOptions;
  readonly #deadlines: Deadlines;
  readonly #closed: CancelSignal;
  #fd = -1;
  #watched = false;
  #timer: Timer | undefined;
  #failed: MeshError | undefined;
  #done: PromiseWithResolvers<ConnectedSocket> | undefined;

  constructor(loop: Loop, options: ConnectOptions, deadlines: Deadlines, closed: CancelSignal) {
    this.id = loop.newId();
    this.#loop = loop;
    this.#options = options;
    this.#deadlines = deadlines;
    this.#closed = closed;
    try {
      this.#start();
    } catch (thrown) {
      this.#fail(MeshError.from(thrown));
    }
  }

  get done(): Promise<ConnectedSocket> {
    if (this.#failed) return Promise.reject(this.#failed);
    this.#done ??= Promise.withResolvers();
    return this.#done.promise;
  }

  onEvents(): void {
    this.#finish(socketError(this.#fd));
  }

  onFault(thrown: unknown): MeshError {
    const error = MeshError.from(thrown);
    this.#fail(error);
    return error;
  }

  onCancel(reason: MeshError): void {
    this.#fail(reason);
  }

  onDeadline(): void {
    this.#fail(new MeshError('connect_timeout', `${this.#what()}: no answer within ${this.#timeout} ms`));
  }

  #start(): void {
    const started = this.#startConnect(0);
    if (started !== ERRNO.EINPROGRESS) return this.#finish(started);
    this.#closed.add(this);
    this.#options.cancel?.add(this);
    if (this.#timeout === DEFAULT_TIMEOUT) this.#deadlines.add(this);
    else this.#timer = systemClock.after(this.#timeout, () => this.onDeadline());
    this.#loop.watch(this.#fd, EPOLL.OUT, this);
    this.#watched = true;
    return undefined;
  }

  /** The errno of connect(2). */
  #startConnect(attempt: number): number {
    this.#fd = clientTcp(this.#options, attempt);
    this.#loop.own(this.#fd);
    const started = startConnect(this.#fd, this.#options.to);
    if (started !== ERRNO.EADDRNOTAVAIL || !mayHaveAnotherPort(this.#options, attempt)) return started;
    this.#closeFd();
    return this.#startConnect(attempt + 1);
  }

  #finish(code: number): void {
    if (code !== 0) return this.#fail(connectError(this.#what(), code));
    this.#settle();
    const connected = { fd: this.#fd, watch: this.#watched ? this : undefined };
    if (this.#done) return this.#done.resolve(connected);
    this.connected = connected;
    return undefined;
  }

  #fail(error: MeshError): void {
    this.#settle();
    if (this.#watched) this.#loop.unwatch(this.#fd, this);
    this.#closeFd();
    this.#failed = error;
    this.#done?.reject(error);
  }

  /** There is none when the socket could not be made. */
  #closeFd(): void {
    if (this.#fd < 0) return;
    this.#loop.disown(this.#fd);
    libc().close(this.#fd);
    this.#fd = -1;
  }

  #settle(): void {
    this.#closed.delete(this);
    this.#options.cancel?.delete(this);
    this.#deadlines.delete(this);
    this.#timer?.cancel();
  }

  get #timeout(): number {
    return this.#options.timeout ?? DEFAULT_TIMEOUT;
  }

  #what(): string {
    return `connect to ${formatHostPort(this.#options.to)}`;
  }
}

function connectError(what: string, code: number): MeshError {
  const error = systemError(what, 'connect', code);
  return error.code === 'connect_timeout' ? error : new MeshError('connect_failed', error.message, { cause: error.cause });
}
