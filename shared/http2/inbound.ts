// What each kind of frame does when it comes in: the rules of RFC 9113, section 6, and the budgets against floods.
import type { Clock } from '../clock.ts';
import { ReceiveWindow, type SendWindow, windowFault } from './flow.ts';
import type { FrameSink } from './frame-reader.ts';
import { ConnectionFault, decodeSettings, Flag, FrameType, Http2Code, readUint31, readUint32 } from './frames.ts';
import { HeaderBlock } from './header-block.ts';
import { header, type HeaderList, requestFault, responseFault, trailerFault } from './headers.ts';
import { type DecodedBlock, HpackDecoder } from './hpack/decoder.ts';
import { Budget, type Http2Limits } from './limits.ts';
import type { Output } from './output.ts';
import type { LocalSettings, PeerSettings } from './settings.ts';
import type { Http2Stream } from './stream.ts';
import type { StreamTable } from './streams.ts';

/** WINDOW_UPDATE frames that one DATA frame gives reason for; as Envoy (max_inbound_window_update_frames_per_data_frame_sent). */
const UPDATES_PER_FRAME = 10;

export interface InboundContext {
  readonly role: 'client' | 'server';
  readonly clock: Clock;
  readonly settings: LocalSettings;
  readonly limits: Http2Limits;
  readonly peer: PeerSettings;
  readonly streams: StreamTable;
  readonly output: Output;
  readonly sendWindow: SendWindow;
  takesStreams(): boolean;
  newStream(id: number, headers: HeaderList): Http2Stream;
  onStream(stream: Http2Stream): void;
  /** Stops reading until the peer has taken what waits for it. */
  holdBack(): void;
  onSettings(): void;
  onPong(): void;
  onGoaway(lastId: number, code: number): void;
  /** Some window grew: streams that waited may send. */
  pump(): void;
}

export class FrameHandler implements FrameSink {
  /** Frames seen. */
  activity = 0;
  /** Server, once its final GOAWAY is out: streams above this id are ignored. */
  refuseAbove: number | undefined;
  #context: InboundContext;
  #block: HeaderBlock;
  #decoder: HpackDecoder;
  #receiveWindow: ReceiveWindow;
  #resets: Budget;
  #questions: Budget;
  #idle: Budget;
  #windowUpdates = 0;
  /** The DATA frame now coming in. */
  #stream: Http2Stream | undefined;
  #dataFlags = 0;
  #overhead = 0;

  constructor(context: InboundContext) {
    const { limits, clock, settings } = context;
    this.#context = context;
    this.#block = new HeaderBlock(limits);
    this.#decoder = new HpackDecoder(settings.headerTableSize, settings.headerListSize);
    this.#receiveWindow = new ReceiveWindow({ first: settings.connectionWindow, limit: settings.connectionWindow });
    this.#resets = new Budget(limits.resets, clock, 'streams reset');
    this.#questions = new Budget(limits.questions, clock, 'PING and SETTINGS frames');
    this.#idle = new Budget(limits.idleFrames, clock, 'frames without effect');
  }

  // --- DATA ---

  onDataStart(flags: number, streamId: number, length: number): void {
    this.activity++;
    this.#block.check(FrameType.data, streamId);
    const { streams, output } = this.#context;
    if (streamId === 0 || streams.isIdle(streamId)) throw protocolFault(`DATA for stream ${streamId}, which is not open`);
    if (!this.#receiveWindow.receive(length)) throw windowFault('DATA over the window of the connection');
    const increment = this.#receiveWindow.take(length, false);
    if (increment > 0) output.numberFrame(FrameType.windowUpdate, 0, increment);
    if (length === 0 && !(flags & Flag.endStream)) this.#idle.spend();

    const stream = streams.get(streamId);
    this.#stream = undefined;
    if (!stream) return this.#forClosed(streamId);
    if (this.#context.role === 'client' && !stream.answered) return this.#streamFault(stream, Http2Code.protocolError);
    if (stream.remoteEnded) return this.#streamFault(stream, Http2Code.streamClosed);
    if (!stream.charge(length)) return this.#streamFault(stream, Http2Code.flowControlError);
    this.#stream = stream;
    this.#dataFlags = flags;
    this.#overhead = length;
  }

  onData(chunk: Uint8Array): void {
    this.#overhead -= chunk.length;
    this.#stream?.receive(chunk, this.#overhead === 0 && (this.#dataFlags & Flag.endStream) !== 0);
  }

  onDataEnd(): void {
    const stream = this.#stream;
    if (!stream) return;
    this.#stream = undefined;
    if (this.#overhead > 0) stream.credit(this.#overhead);
    if (this.#dataFlags & Flag.endStream) stream.receiveEnd();
  }

  // --- everything else ---

  onFrame(type: number, flags: number, streamId: number, payload: Uint8Array): void {
    this.activity++;
    this.#block.check(type, streamId);
    switch (type) {
      case FrameType.headers:
        if (streamId === 0) throw protocolFault('HEADERS for stream 0');
        return this.#headers(streamId, this.#block.begin(flags, streamId, payload));
      case FrameType.continuation:
        return this.#headers(streamId, this.#block.next(flags, payload));
      case FrameType.windowUpdate:
        return this.#windowUpdate(streamId, payload);
      case FrameType.rstStream:
        return this.#rstStream(streamId, payload);
      case FrameType.settings:
        return this.#settingsFrame(flags, streamId, payload);
      case FrameType.ping:
        return this.#ping(flags, streamId, payload);
      case FrameType.goaway:
        if (streamId !== 0) throw protocolFault('GOAWAY for a stream');
        if (payload.length < 8) throw sizeFault('GOAWAY');
        this.#idle.spend();
        return this.#context.onGoaway(readUint31(payload, 0), readUint32(payload, 4));
      case FrameType.priority:
        if (streamId === 0) throw protocolFault('PRIORITY for stream 0');
        if (payload.length !== 5) throw sizeFault('PRIORITY');
        return this.#idle.spend();
      case FrameType.pushPromise:
        throw protocolFault('PUSH_PROMISE, which was switched off');
      default:
        return this.#idle.spend();
    }
  }

  #headers(streamId: number, block: Uint8Array | undefined): void {
    if (!block) return;
    const decoded = this.#decoder.decode(block);
    const { streams, role } = this.#context;
    const stream = streams.get(streamId);
    if (stream) return role === 'server' || stream.answered ? this.#trailers(stream, decoded) : this.#response(stream, decoded);
    if (!streams.isIdle(streamId)) return this.#forClosed(streamId);
    if (role === 'client' || streams.isLocal(streamId))
      throw protocolFault(`HEADERS for stream ${streamId}, which is not the peer's`);
    streams.peerOpened(streamId);
    this.#request(streamId, decoded);
  }

  #request(streamId: number, { headers, oversized }: DecodedBlock): void {
    const { streams, settings } = this.#context;
    // Unlike a PING, so many requests may be meant: as many heads may be on their way to a slow reader as it may have streams.
    if (this.#backlogged) this.#context.holdBack();
    if (!this.#context.takesStreams() || (this.refuseAbove !== undefined && streamId > this.refuseAbove)) return;
    if (isFull(streams, settings.maxStreams ?? 0)) {
      streams.past.resetHere(streamId);
      return this.#resetClosed(streamId, Http2Code.refusedStream);
    }
    const stream = this.#context.newStream(streamId, headers);
    if (oversized) {
      this.#resets.spend();
      stream.respond(431, [], true);
      return stream.reset(Http2Code.noError);
    }
    const skipBody = header(headers, ':method') === 'CONNECT';
    const ends = this.#block.endStream;
    if (requestFault(headers) !== undefined || !stream.expectBody(headers, skipBody, ends)) {
      return this.#streamFault(stream, Http2Code.protocolError);
    }
    if (ends) stream.receiveEnd();
    if (stream.closed) return;
    try {
      this.#context.onStream(stream);
    } catch (thrown) {
      stream.fail(thrown);
    }
  }

  #response(stream: Http2Stream, { headers, oversized }: DecodedBlock): void {
    const ends = this.#block.endStream;
    if (oversized || responseFault(headers) !== undefined) return this.#streamFault(stream, Http2Code.protocolError);
    const status = header(headers, ':status') ?? '';
    if (status.startsWith('1')) {
      if (ends || status === '101') return this.#streamFault(stream, Http2Code.protocolError);
      this.#idle.spend();
      try {
        return stream.opener?.onInformational?.(headers);
      } catch (thrown) {
        return stream.fail(thrown);
      }
    }
    if (!stream.expectBody(headers, stream.isBodyless(status), ends)) return this.#streamFault(stream, Http2Code.protocolError);
    stream.setAnswered();
    try {
      stream.opener?.onResponse?.(headers, ends);
    } catch (thrown) {
      return stream.fail(thrown);
    }
    if (ends) stream.receiveEnd();
  }

  #trailers(stream: Http2Stream, { headers, oversized }: DecodedBlock): void {
    if (stream.remoteEnded) return this.#streamFault(stream, Http2Code.streamClosed);
    if (!this.#block.endStream || oversized || trailerFault(headers) !== undefined) {
      return this.#streamFault(stream, Http2Code.protocolError);
    }
    stream.receiveEnd(headers);
  }

  #windowUpdate(streamId: number, payload: Uint8Array): void {
    if (payload.length !== 4) throw sizeFault('WINDOW_UPDATE');
    const { streams, sendWindow, output } = this.#context;
    if (++this.#windowUpdates > UPDATES_PER_FRAME * output.dataFrames) this.#idle.spend();
    const increment = readUint31(payload, 0);
    if (streamId === 0) {
      if (increment === 0) throw protocolFault('WINDOW_UPDATE of 0');
      if (!sendWindow.grow(increment)) throw windowFault('window of the connection over 2^31-1');
      return this.#context.pump();
    }
    if (streams.isIdle(streamId)) throw protocolFault(`WINDOW_UPDATE for stream ${streamId}, which is not open`);
    const stream = streams.get(streamId);
    if (!stream) return this.#idle.spend();
    if (increment === 0) return this.#streamFault(stream, Http2Code.protocolError);
    if (!stream.growSendWindow(increment)) return this.#streamFault(stream, Http2Code.flowControlError);
    if (stream.buffered > 0) streams.wait(stream);
    this.#context.pump();
  }

  #rstStream(streamId: number, payload: Uint8Array): void {
    if (payload.length !== 4) throw sizeFault('RST_STREAM');
    const { streams } = this.#context;
    if (streamId === 0 || streams.isIdle(streamId)) throw protocolFault(`RST_STREAM for stream ${streamId}, which is not open`);
    const stream = streams.get(streamId);
    if (!stream) return this.#idle.spend();
    if (this.#context.role === 'server' && !stream.answered) this.#resets.spend();
    stream.receiveReset(readUint32(payload, 0));
  }

  #settingsFrame(flags: number, streamId: number, payload: Uint8Array): void {
    if (streamId !== 0) throw protocolFault('SETTINGS for a stream');
    if (flags & Flag.ack) {
      if (payload.length > 0) throw sizeFault('SETTINGS ACK');
      return this.#idle.spend();
    }
    if (payload.length % 6 !== 0) throw sizeFault('SETTINGS');
    this.#question();
    const { peer, role, streams } = this.#context;
    const before = peer.initialWindow;
    peer.apply(decodeSettings(payload), role);
    const change = peer.initialWindow - before;
    if (change !== 0) {
      for (const stream of streams.all()) {
        if (!stream.growSendWindow(change)) throw windowFault('window of a stream over 2^31-1');
        if (stream.buffered > 0) streams.wait(stream);
      }
    }
    this.#context.onSettings();
    if (change > 0) this.#context.pump();
  }

  #ping(flags: number, streamId: number, payload: Uint8Array): void {
    if (streamId !== 0) throw protocolFault('PING for a stream');
    if (payload.length !== 8) throw sizeFault('PING');
    if (flags & Flag.ack) {
      this.#idle.spend();
      return this.#context.onPong();
    }
    this.#question();
    this.#context.output.frame(FrameType.ping, Flag.ack, 0, payload);
  }

  /** The peer wants an answer: not more often than is sane, and not while it leaves the last ones unread. */
  #question(): void {
    this.#questions.spend();
    this.#mustRead();
  }

  get #backlogged(): boolean {
    const { output, limits } = this.#context;
    return output.blocked && output.length > limits.controlBacklog;
  }

  #mustRead(): void {
    if (this.#backlogged) {
      throw new ConnectionFault(Http2Code.enhanceYourCalm, 'the peer does not read the answers that it asks for');
    }
  }

  /** DATA or HEADERS for a stream that is over: what was under way when it was reset here is ignored, the rest is a fault. */
  #forClosed(streamId: number): void {
    this.#idle.spend();
    const { past } = this.#context.streams;
    if (past.wasPassedOver(streamId)) throw protocolFault(`stream ${streamId} after a higher one`);
    const ignored = this.refuseAbove !== undefined && streamId > this.refuseAbove;
    if (!ignored && !past.wasResetHere(streamId)) this.#resetClosed(streamId, Http2Code.streamClosed);
  }

  /** RST_STREAM for a stream that is not in the table. */
  #resetClosed(streamId: number, code: number): void {
    this.#resets.spend();
    this.#mustRead();
    this.#context.output.numberFrame(FrameType.rstStream, streamId, code);
  }

  /** The peer broke a rule of one stream: only that stream ends. */
  #streamFault(stream: Http2Stream, code: number): void {
    this.#resets.spend();
    this.#mustRead();
    stream.reset(code);
  }
}

function protocolFault(message: string): ConnectionFault {
  return new ConnectionFault(Http2Code.protocolError, message);
}

function sizeFault(frame: string): ConnectionFault {
  return new ConnectionFault(Http2Code.frameSizeError, `${frame} of a wrong size`);
}

/**
 * Streams that both sides have ended do not count (RFC 9113, section 5.1.2), however slow their readers are; but what those have not taken
 * fills memory, so that there are as many of them at most.
 */
function isFull(streams: StreamTable, most: number): boolean {
  if (streams.size < most) return false;
  return streams.size >= 2 * most || streams.all().filter((stream) => !stream.complete).length >= most;
}
