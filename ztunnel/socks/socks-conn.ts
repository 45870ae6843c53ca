// A connection that begins with SOCKS5: first it says where it wants to go, then it is the connection to there.
import type { HostPort } from '#shared/address.ts';
import { nextId } from '#shared/collections/id-table.ts';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { CancelListener, CancelSignal } from '#shared/lifecycle/cancel.ts';
import type { CloseReason, Conn, StreamHandler } from '#shared/reactor/api.ts';
import type { Reading, Reply, Wish } from './messages.ts';
import { METHOD_CHOSEN, readGreeting, readRequest, reply, REPLY } from './messages.ts';

/** How long a client may take to say where it wants to go, ms. */
const NEGOTIATION_TIMEOUT = 10_000;
/** How long a refused client has to take its answer and leave, ms. */
const FAREWELL_TIMEOUT = 1000;

export class SocksConn implements Conn, StreamHandler, CancelListener {
  readonly id = nextId();
  /** Where the client wants to go; rejects with `bad_request`, `reset`, or the reason of the cancel signal. */
  readonly wish: Promise<Wish>;
  readonly #conn: Conn;
  readonly #clock: Clock;
  #settle!: { resolve: (wish: Wish) => void; reject: (error: MeshError) => void };
  #state: 'greeting' | 'request' | 'asked' | 'refused' = 'greeting';
  /** What has come and is not read yet. */
  #pending: Uint8Array = new Uint8Array();
  #ended = false;
  #closed: CloseReason | undefined;
  #held = false;
  #next: StreamHandler | undefined;
  #onClosed: (() => void) | undefined;

  constructor(conn: Conn, clock: Clock, cancel: CancelSignal) {
    this.#conn = conn;
    this.#clock = clock;
    const { promise, resolve, reject } = Promise.withResolvers<Wish>();
    const timer = clock.after(NEGOTIATION_TIMEOUT, () =>
      reject(new MeshError('bad_request', `SOCKS5: no request within ${NEGOTIATION_TIMEOUT} ms`)),
    );
    this.#settle = { resolve, reject };
    this.wish = promise.finally(() => {
      timer.cancel();
      cancel.delete(this);
    });
    if (cancel.reason) reject(cancel.reason);
    else cancel.add(this);
    conn.start(this);
  }

  /** The way is open: bytes may flow once start() was called. */
  accept(): void {
    this.#conn.write(reply(REPLY.succeeded));
  }

  /** Tells the client that it does not get its connection, unless it was told something else, and ends it. */
  async refuse(code: Reply): Promise<void> {
    if (this.#state !== 'refused') this.#farewell(reply(code));
    if (this.#closed) return;
    await new Promise<void>((resolve) => {
      const timer = this.#clock.after(FAREWELL_TIMEOUT, resolve);
      const onClosed = (): void => {
        timer.cancel();
        resolve();
      };
      this.#onClosed = onClosed;
    });
    this.#conn.reset();
  }

  onCancel(reason: MeshError): void {
    this.#settle.reject(reason);
  }

  onData(chunk: Uint8Array): void {
    if (this.#next) return this.#next.onData(chunk);
    if (this.#state === 'refused') return;
    this.#pending = Buffer.concat([this.#pending, chunk]);
    if (this.#state === 'greeting' && this.#take(readGreeting(this.#pending))) {
      this.#conn.write(METHOD_CHOSEN);
      this.#state = 'request';
    }
    if (this.#state !== 'request') return;
    const wish = this.#take(readRequest(this.#pending));
    if (!wish) return;
    this.#state = 'asked';
    this.#conn.pause();
    this.#settle.resolve(wish.value);
  }

  onEnd(): void {
    this.#ended = true;
    if (this.#next) this.#next.onEnd();
    else if (this.#state === 'greeting' || this.#state === 'request') this.#settle.reject(left());
  }

  onDrain(): void {
    this.#next?.onDrain();
  }

  onClose(reason: CloseReason): void {
    this.#closed = reason;
    this.#settle.reject(left());
    this.#onClosed?.();
    this.#next?.onClose(reason);
  }

  get local(): HostPort {
    return this.#conn.local;
  }

  get remote(): HostPort {
    return this.#conn.remote;
  }

  originalDestination(): HostPort {
    return this.#conn.originalDestination();
  }

  get buffered(): number {
    return this.#conn.buffered;
  }

  /** What came behind the request, and the end of the client's side, reach the handler first. */
  start(handler: StreamHandler): void {
    queueMicrotask(() => {
      if (this.#closed) return handler.onClose(this.#closed);
      this.#next = handler;
      const early = this.#pending;
      this.#pending = new Uint8Array();
      if (early.length > 0) handler.onData(early);
      if (this.#ended) handler.onEnd();
      if (!this.#held) this.#conn.resume();
    });
  }

  write(chunk: Uint8Array): boolean {
    return this.#conn.write(chunk);
  }

  end(): void {
    this.#conn.end();
  }

  reset(code?: number): void {
    this.#conn.reset(code);
  }

  pause(): void {
    this.#held = true;
    this.#conn.pause();
  }

  resume(): void {
    this.#held = false;
    if (this.#next) this.#conn.resume();
  }

  /** The message, taken off what has come; a faulty one is answered, and the client done with. */
  #take<T>(reading: Reading<T>): { readonly value: T } | undefined {
    if (reading.kind === 'more') return undefined;
    if (reading.kind === 'fault') {
      this.#farewell(reading.answer);
      this.#settle.reject(new MeshError('bad_request', reading.reason));
      return undefined;
    }
    this.#pending = this.#pending.subarray(reading.length);
    return reading;
  }

  #farewell(answer: Uint8Array): void {
    this.#state = 'refused';
    this.#pending = new Uint8Array();
    if (this.#closed) return;
    this.#conn.write(answer);
    this.#conn.end();
    this.#conn.resume();
  }
}

function left(): MeshError {
  return new MeshError('reset', 'SOCKS5: the client left before it had its connection');
}
