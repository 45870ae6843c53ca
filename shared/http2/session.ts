// One HTTP/2 connection, client or server, over any ByteStream. Frames come in through FrameReader, go out through Output, and meet
// their streams here. A peer that breaks the protocol ends its own session with a named error; nothing is thrown at the caller.
import type { Clock, Timer } from '../clock.ts';
import { MeshError } from '../errors.ts';
import type { ByteStream, CloseReason } from '../reactor/api.ts';
import { ReceiveWindow, SendWindow, WindowGrowth } from './flow.ts';
import type { WindowPlan } from './flow.ts';
import { FrameReader } from './frame-reader.ts';
import { codeName, ConnectionFault, DEFAULT_WINDOW, encodeSettings, Flag, FrameType, Http2Code, PREFACE } from './frames.ts';
import { assertSendable, header, type HeaderList } from './headers.ts';
import { HpackEncoder } from './hpack/encoder.ts';
import { FrameHandler } from './inbound.ts';
import { resetWhenDone } from './leaving.ts';
import { DEFAULT_LIMITS, type Http2Limits } from './limits.ts';
import { BufferPool, Output } from './output.ts';
import { DEFAULT_SETTINGS, type LocalSettings, PeerSettings, settingList } from './settings.ts';
import type { StreamHost } from './stream-host.ts';
import { Http2Stream, NO_HEADERS } from './stream.ts';
import { StreamTable } from './streams.ts';

export interface Http2Options {
  role: 'client' | 'server';
  clock: Clock;
  settings?: Partial<LocalSettings>;
  limits?: Partial<Http2Limits>;
  /** Runs a task at the end of the event loop's turn; default setImmediate. */
  defer?: (task: () => void) => void;
  /** Shared by the sessions of a thread. */
  buffers?: BufferPool;
  /** Client: the peer is not told who this side is, and cannot refuse it for that. */
  anonymous?: boolean;
  /** Server: a request came. Start it, or respond and end it; it counts until both ends are over. */
  onStream?(stream: Http2Stream): void;
  /** A stream ended, or the peer's SETTINGS or GOAWAY changed what can be opened. */
  onChange?(): void;
  /** Once, last. `ended`: closed in order. */
  onClose?(reason: CloseReason): void;
}

/** Streams that a client opens before the peer said how many it takes. */
const ASSUMED_STREAMS = 100;
/** Milliseconds that the peer has to answer the PING of a graceful GOAWAY. */
const PING_TIMEOUT = 2000;
/** The highest stream id, in the first GOAWAY of a graceful shutdown: "no new streams soon" (RFC 9113, section 6.8). */
const ANY_STREAM = 2 ** 31 - 1;

type State = 'open' | 'draining' | 'closing' | 'closed';

export class Http2Session {
  readonly role: 'client' | 'server';
  readonly peer = new PeerSettings();
  #transport: ByteStream;
  #options: Http2Options;
  #settings: LocalSettings;
  #output: Output;
  #encoder = new HpackEncoder();
  readonly #streamWindows: WindowPlan;
  #streams: StreamTable;
  #frames: FrameHandler;
  #sendWindow = new SendWindow(DEFAULT_WINDOW);
  #state: State = 'open';
  /** The transport is paused until the peer reads. */
  #heldBack = false;
  #goawayFromPeer = false;
  #tasks: (() => void)[] = [];
  #turnDue = false;
  #turn = (): void => this.#endOfTurn();
  #pings: (() => void)[] = [];
  #timer: Timer | undefined;
  #host: StreamHost;

  constructor(transport: ByteStream, options: Http2Options) {
    this.role = options.role;
    this.#transport = transport;
    this.#options = options;
    this.#settings = {
      ...DEFAULT_SETTINGS,
      ...(options.role === 'client' ? { maxStreams: undefined } : {}),
      ...options.settings,
    };
    this.#streamWindows = {
      first: this.#settings.streamWindow,
      limit: this.#settings.maxStreamWindow,
      growth: new WindowGrowth(this.#settings.connectionWindow),
    };
    this.#streams = new StreamTable(this.role);
    this.#output = new Output(transport, options.buffers ?? new BufferPool(), () => this.#wantTurn());
    this.#host = this.#streamHost();
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#frames = new FrameHandler({
      role: this.role,
      clock: options.clock,
      settings: this.#settings,
      limits,
      peer: this.peer,
      streams: this.#streams,
      output: this.#output,
      sendWindow: this.#sendWindow,
      takesStreams: () => this.#state === 'open' || this.#state === 'draining',
      newStream: (id, headers) => this.#newStream(id, headers),
      onStream: (stream) => this.#options.onStream?.(stream),
      holdBack: () => {
        this.#heldBack = true;
        transport.pause();
      },
      onSettings: () => this.#onSettings(),
      onPong: () => this.#pings.shift()?.(),
      onGoaway: (lastId, code) => this.#onGoaway(lastId, code),
      pump: () => this.#pump(),
    });
    this.#begin(limits);
  }

  /** Streams now open. */
  get streams(): number {
    return this.#streams.size;
  }

  /** Client: streams that request() would take now. */
  get available(): number {
    if (this.#state !== 'open' || this.#goawayFromPeer || this.#streams.exhausted) return 0;
    return Math.max(0, (this.peer.maxStreams ?? ASSUMED_STREAMS) - this.#streams.size);
  }

  /** False once no new stream will ever be taken: draining, closed, or told to go away. */
  get usable(): boolean {
    return this.#state === 'open' && !this.#goawayFromPeer && !this.#streams.exhausted;
  }

  /** Grows with every frame that comes in: tells a keepalive that the peer lives. */
  get activity(): number {
    return this.#frames.activity;
  }

  /**
   * Client: opens a stream. Set its opener before the turn ends, start() it when its body is wanted.
   * Throws limit_reached when available is 0, `internal` when a header cannot be sent.
   */
  request(headers: HeaderList, endStream = false): Http2Stream {
    if (this.available === 0) throw new MeshError('limit_reached', 'the HTTP/2 connection takes no more streams now');
    assertSendable(headers);
    const stream = this.#newStream(this.#streams.newId(), NO_HEADERS);
    stream.asks(header(headers, ':method'));
    stream.sendHead(headers, endStream);
    return stream;
  }

  /** Calls back when the peer has answered; never after the session closed. */
  ping(onPong: () => void): void {
    if (this.#state === 'closed') return;
    this.#pings.push(onPong);
    this.#output.frame(FrameType.ping, 0, 0, new Uint8Array(8));
  }

  /** Takes no new streams and closes when the open ones have ended. A server says so first and waits one PING for streams under way. */
  drain(): void {
    if (this.#state !== 'open') return;
    this.#state = 'draining';
    if (this.role === 'client') {
      this.#goaway(Http2Code.noError, 0, '');
      return this.#closeWhenIdle();
    }
    this.#goaway(Http2Code.noError, ANY_STREAM, '');
    let done = false;
    const settle = (): void => {
      if (done || this.#state !== 'draining') return;
      done = true;
      this.#timer?.cancel();
      this.#frames.refuseAbove = this.#streams.lastPeer;
      this.#goaway(Http2Code.noError, this.#streams.lastPeer, '');
      this.#closeWhenIdle();
    };
    this.ping(settle);
    this.#timer = this.#options.clock.after(PING_TIMEOUT, settle);
  }

  /** Says GOAWAY and closes at once; open streams end with `error`, or are reset when there is none. */
  close(error?: MeshError): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    // Also of those that came whole: whoever closes it wants no more of them.
    for (const stream of this.#streams.all())
      if (error) stream.terminate({ kind: 'error', error });
      else stream.reset();
    this.#goaway(Http2Code.noError, this.#streams.lastPeer, error?.message ?? '');
    this.#finish(error ? { kind: 'error', error } : { kind: 'ended' });
  }

  // --- life cycle ---

  #begin(limits: Http2Limits): void {
    if (this.role === 'client') this.#transport.write(PREFACE);
    this.#output.frame(FrameType.settings, 0, 0, encodeSettings(settingList(this.#settings, this.role)));
    this.#output.numberFrame(FrameType.windowUpdate, 0, this.#settings.connectionWindow - DEFAULT_WINDOW);
    const reader = new FrameReader(
      this.#frames,
      { frame: this.#settings.frameSize, collected: Math.max(limits.headerBlock, 16_384) },
      this.role === 'server',
    );
    this.#transport.start({
      onData: (chunk) => this.#receive(reader, chunk),
      onEnd: () => this.#lost(this.#gone('the peer closed the HTTP/2 connection')),
      onDrain: () => {
        this.#output.unblock();
        this.#readOn();
        this.#guard(() => this.#pump());
      },
      onClose: (reason) => this.#die(reason),
    });
  }

  #readOn(): void {
    if (!this.#heldBack || this.#output.blocked) return;
    this.#heldBack = false;
    this.#transport.resume();
  }

  #receive(reader: FrameReader, chunk: Uint8Array): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    this.#guard(() => reader.push(chunk));
  }

  /** A fault of the peer, or of a handler, ends this session and nothing else. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      const fault = error instanceof ConnectionFault ? error : undefined;
      const code = fault?.code ?? Http2Code.internalError;
      const text = fault?.message ?? MeshError.from(error).message;
      const named = new MeshError(fault ? 'protocol_error' : 'internal', `HTTP/2: ${text} (${codeName(code)})`, { cause: error });
      if (this.#state === 'closed') return;
      this.#goaway(code, this.#streams.lastPeer, fault ? text : '');
      this.#finish({ kind: 'error', error: named });
    }
  }

  /** The peer ended the connection: in order when no stream is open. */
  #lost(error: MeshError): void {
    this.#letGo();
    this.#finish(this.#streams.size === 0 || this.#state === 'draining' ? { kind: 'ended' } : { kind: 'error', error });
  }

  /** A server that leaves before it said anything has usually not liked who the client is. */
  #gone(what: string): MeshError {
    if (this.peer.received || this.role === 'server') return new MeshError('reset', what);
    if (this.#options.anonymous) return new MeshError('reset', `${what} before its first frame`);
    return new MeshError('protocol_error', `${what} before its first frame: it may have refused this identity`);
  }

  #onSettings(): void {
    this.#encoder.setPeerLimit(this.peer.headerTableSize);
    this.#output.frame(FrameType.settings, Flag.ack, 0, new Uint8Array(0));
    this.#options.onChange?.();
  }

  #onGoaway(lastId: number, code: number): void {
    this.#goawayFromPeer = true;
    for (const stream of this.#streams.all()) {
      // Above lastId nothing was processed, so it may be tried on another connection.
      if (this.#streams.isLocal(stream.id) && stream.id > lastId) {
        stream.terminate({ kind: 'reset', remote: true, code: Http2Code.refusedStream });
      }
    }
    if (code !== Http2Code.noError && this.role === 'server') return this.drain();
    this.#options.onChange?.();
    this.#closeWhenIdle();
  }

  #closeWhenIdle(): void {
    const leaving = this.#state === 'draining' || (this.#state === 'open' && this.#goawayFromPeer);
    const settled = this.role === 'client' || this.#frames.refuseAbove !== undefined || this.#goawayFromPeer;
    if (leaving && settled && this.#streams.size === 0) this.#finish({ kind: 'ended' });
  }

  /** Sends what is left, ends the transport, and gives the peer a while to do the same. */
  #finish(reason: CloseReason): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    this.#state = 'closing';
    this.#timer?.cancel();
    // Also what waits for the peer to read on: nothing will tell when it does.
    this.#output.unblock();
    this.#transport.end();
    this.#timer = resetWhenDone(this.#options.clock, this.#transport, reason.kind === 'ended');
    this.#letGo();
    this.#endStreams(reason);
    this.#later(() => this.#options.onClose?.(reason));
  }

  #die(reason: CloseReason): void {
    this.#timer?.cancel();
    const open = this.#state === 'open' || this.#state === 'draining';
    this.#state = 'closed';
    this.#pings = [];
    if (!open) return;
    this.#letGo();
    this.#endStreams(reason);
    this.#options.onClose?.(reason);
  }

  /** What came whole is its reader's, however long that takes: it needs no connection any more. */
  #letGo(): void {
    for (const stream of this.#streams.all()) if (stream.complete) this.#streams.remove(stream);
  }

  #endStreams(reason: CloseReason): void {
    const lost: CloseReason =
      reason.kind === 'error' ? reason : { kind: 'error', error: this.#gone('the HTTP/2 connection was closed') };
    for (const stream of this.#streams.all()) stream.terminate(lost);
  }

  // --- output ---

  #goaway(code: number, lastId: number, text: string): void {
    const debug = new TextEncoder().encode(text.slice(0, 200));
    const payload = new Uint8Array(8 + debug.length);
    new DataView(payload.buffer).setUint32(0, lastId);
    new DataView(payload.buffer).setUint32(4, code);
    payload.set(debug, 8);
    this.#output.frame(FrameType.goaway, 0, 0, payload);
  }

  #later(task: () => void): void {
    this.#tasks.push(task);
    this.#wantTurn();
  }

  #wantTurn(): void {
    if (this.#turnDue) return;
    this.#turnDue = true;
    (this.#options.defer ?? setImmediate)(this.#turn);
  }

  /** Runs what was put off and sends what was gathered: one write to the transport per turn. */
  #endOfTurn(): void {
    this.#turnDue = false;
    const tasks = this.#tasks;
    if (tasks.length > 0) this.#tasks = [];
    for (const task of tasks) this.#guard(task);
    if (this.#state !== 'closed') this.#output.flush();
  }

  #pump(): void {
    this.#streams.pump(() => this.#sendWindow.left > 0 && this.#output.room() > 0);
  }

  #newStream(id: number, headers: HeaderList): Http2Stream {
    const stream = new Http2Stream(this.#host, id, headers, new ReceiveWindow(this.#streamWindows), this.peer.initialWindow);
    this.#streams.add(stream);
    return stream;
  }

  #streamHost(): StreamHost {
    const output = this.#output;
    const connection = this.#sendWindow;
    const frame = (): number => this.peer.maxFrameSize;
    const limit = (stream: Http2Stream): number => Math.min(stream.sendWindow, connection.left, frame(), output.room());
    return {
      sendData: (stream, chunk, from) => {
        while (from < chunk.length) {
          const count = Math.min(chunk.length - from, limit(stream));
          if (count <= 0) break;
          output.data(stream.id, chunk, from, from + count, frame());
          stream.sendWindow -= count;
          connection.left -= count;
          from += count;
        }
        return from;
      },
      sendHeaders: (stream, headers, endStream) => output.headers(stream.id, this.#encoder.encode(headers), endStream, frame()),
      sendEnd: (stream) => output.endStream(stream.id),
      sendReset: (stream, code) => {
        if (this.#state === 'open' || this.#state === 'draining') output.numberFrame(FrameType.rstStream, stream.id, code);
      },
      sendWindowUpdate: (stream, increment) => output.numberFrame(FrameType.windowUpdate, stream.id, increment),
      space: (stream) => {
        const octets = limit(stream);
        return octets > 0 ? output.space(octets) : undefined;
      },
      waiting: (stream) => {
        if (stream.sendWindow > 0) this.#streams.wait(stream);
      },
      later: (task) => this.#later(task),
      forget: (stream) => {
        this.#streams.remove(stream);
        if (this.#state === 'closing' || this.#state === 'closed') return;
        this.#later(() => {
          this.#options.onChange?.();
          this.#closeWhenIdle();
        });
      },
    };
  }
}
