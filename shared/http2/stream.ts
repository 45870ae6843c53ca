// One stream of a session: a ByteStream with a head in each direction. It owns its windows, what waits for the reader and what waits
// for the peer's window; the session moves frames.
import type { ByteStream, CloseReason } from '../reactor/api.ts';
import { faultOfThisProcess, warnOf } from '../reactor/fault.ts';
import { ByteQueue } from './byte-queue.ts';
import { Http2Code, MAX_WINDOW } from './frames.ts';
import type { ReceiveWindow } from './flow.ts';
import { assertSendable, contentLength, type HeaderList } from './headers.ts';
import type { StreamHost } from './stream-host.ts';
import {
  PAUSED,
  WANTS_DRAIN,
  ANSWERED,
  ENDING,
  LOCAL_ENDED,
  REMOTE_ENDED,
  END_DELIVERED,
  ANNOUNCED,
  ASKED_HEAD,
  ASKED_CONNECT,
} from './stream-state.ts';
import type { Http2Handler, StreamOpener } from './stream-user.ts';

/** Most octets handed to a reader in one call, and sent for one stream before others have their turn. */
const QUANTUM = 65_536;

/** Of streams for which nothing ever waited, most of all; never pushed to. */
const NOTHING = new ByteQueue();
export const NO_HEADERS: HeaderList = [];

export class Http2Stream implements ByteStream {
  readonly id: number;
  /** The head that came first: the request at a server, empty at a client. */
  headers: HeaderList;
  /** What may still be sent; below zero when the peer has shrunk its initial window. */
  sendWindow: number;
  opener: StreamOpener | undefined;

  #host: StreamHost;
  #receiveWindow: ReceiveWindow;
  #handler: Http2Handler | undefined;
  #state = 0;
  #held = NOTHING;
  #pending = NOTHING;
  #trailersOut: HeaderList | undefined;
  #trailersIn: HeaderList | undefined;
  #closed: CloseReason | undefined;
  /** Octets of body still announced by content-length; undefined when not announced or not to be checked. */
  #bodyLeft: number | undefined;

  constructor(host: StreamHost, id: number, headers: HeaderList, receiveWindow: ReceiveWindow, sendWindow: number) {
    this.#host = host;
    this.id = id;
    this.headers = headers;
    this.#receiveWindow = receiveWindow;
    this.sendWindow = sendWindow;
  }

  get buffered(): number {
    return this.#pending.length;
  }

  /** Octets that wait for the reader. */
  get held(): number {
    return this.#held.length;
  }

  /** Set once the stream is over; nothing more is sent or taken. */
  get closed(): CloseReason | undefined {
    return this.#closed;
  }

  /** True once a head went out (server) or the response came in (client): a reset from then on is no rapid reset. */
  get answered(): boolean {
    return this.#is(ANSWERED);
  }

  get remoteEnded(): boolean {
    return this.#is(REMOTE_ENDED);
  }

  /** Both sides have said all; the reader may still have to take some of it. */
  get complete(): boolean {
    return this.#is(LOCAL_ENDED) && this.#is(REMOTE_ENDED);
  }

  // --- the user's side ---

  start(handler: Http2Handler): void {
    this.#handler = handler;
    this.#host.later(() => this.#catchUp());
  }

  /** Server: the response head, or a 1xx head before it. Throws `internal` when a header cannot be sent. */
  respond(status: number, headers: HeaderList = [], endStream = false): void {
    if (!this.#sends) return;
    assertSendable(headers);
    if (status >= 200) this.setAnswered();
    this.sendHead([[':status', String(status)], ...headers], endStream);
  }

  write(chunk: Uint8Array): boolean {
    if (!this.#sends) return true;
    const sent = this.#pending.length === 0 ? this.#host.sendData(this, chunk, 0) : 0;
    if (sent === chunk.length) return true;
    if (this.#pending === NOTHING) this.#pending = new ByteQueue();
    this.#pending.push(sent === 0 ? chunk : chunk.subarray(sent));
    this.#state |= WANTS_DRAIN;
    this.#host.waiting(this);
    return false;
  }

  /**
   * Where the next write() may come from without a copy: a reader fills its start and at once gives that part to write().
   * Undefined when nothing can be sent now.
   */
  space(): Uint8Array | undefined {
    return !this.#sends || this.#pending.length > 0 ? undefined : this.#host.space(this);
  }

  /** What came before start(), at once; undefined when there is nothing. */
  takeHeld(): Uint8Array | undefined {
    if (this.#held.length === 0 || this.#closed) return undefined;
    const bytes = this.#held.takeAll();
    this.#held = NOTHING;
    this.credit(bytes.length);
    return bytes;
  }

  end(): void {
    this.endWith(undefined);
  }

  /** Ends the sending direction with trailers behind what was written. Throws `internal` when a trailer cannot be sent. */
  endWith(trailers: HeaderList | undefined): void {
    if (!this.#sends) return;
    if (trailers) assertSendable(trailers);
    this.#trailersOut = trailers;
    this.#state |= ENDING;
    if (this.#pending.length === 0) this.#sendEnd();
  }

  reset(code: number = Http2Code.cancel): void {
    if (this.#closed) return;
    this.#host.sendReset(this, code);
    this.#close({ kind: 'reset', remote: false, code }, true);
  }

  pause(): void {
    this.#state |= PAUSED;
  }

  resume(): void {
    if (!this.#is(PAUSED)) return;
    this.#state &= ~PAUSED;
    if (this.#held.length > 0 || this.#is(REMOTE_ENDED)) this.#host.later(() => this.#catchUp());
  }

  /** Lets go of the head that came first, once it was understood. */
  dropHead(): void {
    this.headers = NO_HEADERS;
  }

  // --- the session's side ---

  setAnswered(): void {
    this.#state |= ANSWERED;
  }

  /** Client: what the head that goes out asks for. */
  asks(method: string | undefined): void {
    if (method === 'HEAD') this.#state |= ASKED_HEAD;
    else if (method === 'CONNECT') this.#state |= ASKED_CONNECT;
  }

  /** Client: whether the response has no body, whatever its head says (RFC 9110, section 6.4.1). */
  isBodyless(status: string): boolean {
    return this.#is(ASKED_HEAD) || status === '204' || status === '304' || (this.#is(ASKED_CONNECT) && status < '300');
  }

  /** False when the window passes 2^31-1. */
  growSendWindow(increment: number): boolean {
    this.sendWindow += increment;
    return this.sendWindow <= MAX_WINDOW;
  }

  sendHead(headers: HeaderList, endStream: boolean): void {
    this.#host.sendHeaders(this, headers, endStream);
    if (endStream) this.#localEnd();
  }

  /** The body that the head announces is checked against what comes; `skip` for HEAD, CONNECT and their like. `ends`: nothing comes. */
  expectBody(headers: HeaderList, skip: boolean, ends: boolean): boolean {
    const length = contentLength(headers);
    if (length === 'bad') return false;
    this.#bodyLeft = skip ? undefined : length;
    return !ends || !this.#bodyLeft;
  }

  /** A DATA frame begins: false when it overruns the window. */
  charge(octets: number): boolean {
    return this.#receiveWindow.receive(octets);
  }

  /** Gives octets back that no reader will see (padding). */
  credit(octets: number): void {
    if (this.#closed) return;
    const increment = this.#receiveWindow.take(octets, !this.#is(PAUSED) && this.#held.length === 0);
    if (increment > 0 && !this.#is(REMOTE_ENDED)) this.#host.sendWindowUpdate(this, increment);
  }

  /** `last`: the peer's end has come with it. */
  receive(chunk: Uint8Array, last = false): void {
    if (this.#closed) return;
    if (this.#bodyLeft !== undefined && (this.#bodyLeft -= chunk.length) < 0) return this.reset(Http2Code.protocolError);
    if (!this.#handler || this.#is(PAUSED) || this.#held.length > 0) return this.#hold(chunk);
    try {
      return this.#emit(this.#handler, chunk, false, last && !this.#bodyLeft);
    } catch (thrown) {
      return this.fail(thrown);
    }
  }

  receiveEnd(trailers?: HeaderList): void {
    if (this.#closed || this.#is(REMOTE_ENDED)) return;
    if (this.#bodyLeft !== undefined && this.#bodyLeft > 0) return this.reset(Http2Code.protocolError);
    this.#state |= REMOTE_ENDED;
    this.#trailersIn = trailers;
    if (!this.#handler) return this.#maybeClose(false);
    if (this.#is(PAUSED) || this.#held.length > 0) return undefined;
    try {
      return this.#deliverEnd(this.#handler);
    } catch (thrown) {
      return this.fail(thrown);
    }
  }

  receiveReset(code: number): void {
    // "Response complete, stop sending" (RFC 9113, section 8.1): what was already received is still read.
    if (code === Http2Code.noError && this.#is(REMOTE_ENDED)) {
      this.#pending.clear();
      this.#state |= LOCAL_ENDED;
      this.#maybeClose(false);
      // Who waits for room need not.
      if (!this.#closed) this.#host.later(() => this.#catchUp());
    } else this.terminate({ kind: 'reset', remote: true, code });
  }

  /** The connection or the peer ended the stream. */
  terminate(reason: CloseReason): void {
    if (!this.#closed) this.#close(reason, false);
  }

  /** Code of ours threw in a callback of this stream: it ends, and the others of the connection do not. */
  fail(thrown: unknown): void {
    if (this.#closed) return;
    this.#host.sendReset(this, Http2Code.internalError);
    this.#close({ kind: 'error', error: faultOfThisProcess(thrown) }, true);
  }

  /** Windows or output have room again; sends up to a quantum. True when more could be sent later. */
  pump(): boolean {
    let budget = QUANTUM;
    while (budget > 0) {
      const piece = this.#pending.peek(budget);
      if (!piece) break;
      const sent = this.#host.sendData(this, piece, 0);
      this.#pending.skip(sent);
      budget -= sent;
      if (sent < piece.length) break;
    }
    if (this.#pending.length > 0) return true;
    if (this.#is(ENDING) && !this.#is(LOCAL_ENDED)) this.#sendEnd();
    this.#drained();
    return false;
  }

  #is(bit: number): boolean {
    return (this.#state & bit) !== 0;
  }

  get #sends(): boolean {
    return !this.#closed && (this.#state & (ENDING | LOCAL_ENDED)) === 0;
  }

  #drained(): void {
    if (!this.#is(WANTS_DRAIN) || !this.#handler || this.#closed) return;
    this.#state &= ~WANTS_DRAIN;
    try {
      this.#handler.onDrain();
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  #sendEnd(): void {
    const trailers = this.#trailersOut;
    if (trailers) this.#host.sendHeaders(this, trailers, true);
    else this.#host.sendEnd(this);
    this.#localEnd();
  }

  #localEnd(): void {
    this.#state |= LOCAL_ENDED;
    this.#maybeClose(true);
  }

  #hold(chunk: Uint8Array): void {
    if (this.#held === NOTHING) this.#held = new ByteQueue();
    this.#held.push(chunk);
  }

  /** Hands over what came while nobody read. */
  #catchUp(): void {
    const handler = this.#handler;
    if (!handler || this.#is(ANNOUNCED)) return;
    if (this.#closed) return this.#announceLate(handler, this.#closed);
    if (this.#pending.length === 0) this.#drained();
    try {
      while (!this.#is(PAUSED) && !this.#closed) {
        const piece = this.#held.peek(QUANTUM);
        if (!piece) break;
        this.#emit(handler, piece, true);
      }
      // What came before the answer is of the past for as long as the stream lives.
      if (this.#held.length === 0) this.#held = NOTHING;
      if (this.#is(REMOTE_ENDED) && !this.#is(PAUSED) && this.#held.length === 0) this.#deliverEnd(handler);
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  /** Gives a chunk to the reader, through its own buffer when it has one. `queued`: the chunk is the head of #held. */
  #emit(handler: Http2Handler, chunk: Uint8Array, queued = false, last = false): void {
    let at = 0;
    while (at < chunk.length && !this.#closed) {
      if (this.#is(PAUSED)) {
        if (!queued) this.#hold(chunk.subarray(at));
        return;
      }
      const target = handler.buffer?.();
      const count = target ? Math.min(target.length, chunk.length - at) : chunk.length;
      if (target) target.set(chunk.subarray(at, at + count));
      if (queued) this.#held.skip(count);
      at += count;
      handler.onData(target ? target.subarray(0, count) : chunk, last && at === chunk.length);
      this.credit(count);
    }
  }

  #deliverEnd(handler: Http2Handler): void {
    if (this.#is(END_DELIVERED) || this.#closed) return;
    this.#state |= END_DELIVERED;
    if (this.#trailersIn) handler.onTrailers?.(this.#trailersIn);
    if (!this.#closed) handler.onEnd();
    this.#maybeClose(false);
  }

  /** Over when both ends were sent and the reader has seen the peer's. */
  #maybeClose(later: boolean): void {
    if (this.#closed || !this.#is(LOCAL_ENDED) || !this.#is(REMOTE_ENDED)) return;
    // Without a reader there is nobody to wait for once a refused request was answered.
    if (this.#handler ? this.#is(END_DELIVERED) : this.#held.length === 0) this.#close({ kind: 'ended' }, later);
  }

  #close(reason: CloseReason, later: boolean): void {
    this.#closed = reason;
    this.#held.clear();
    this.#pending.clear();
    this.#receiveWindow.release();
    this.#host.forget(this);
    if (later) this.#host.later(() => this.#announce(reason));
    else this.#announce(reason);
  }

  /** What the last callback throws can end nothing any more, and the others of the connection are still to be told of theirs. */
  #announce(reason: CloseReason): void {
    if (this.#is(ANNOUNCED)) return;
    if (this.#handler) this.#state |= ANNOUNCED;
    try {
      if (this.#handler) this.#handler.onClose(reason);
      else this.opener?.onAbandoned?.(reason);
    } catch (thrown) {
      warnOf(faultOfThisProcess(thrown));
    }
  }

  /** The stream was over before it was started. */
  #announceLate(handler: Http2Handler, reason: CloseReason): void {
    if (reason.kind !== 'ended' || this.#is(END_DELIVERED)) return this.#announce(reason);
    this.#state |= END_DELIVERED;
    try {
      handler.onEnd();
    } catch (thrown) {
      return this.#announce({ kind: 'error', error: faultOfThisProcess(thrown) });
    }
    return this.#announce(reason);
  }
}
