// Collects a header block over HEADERS and CONTINUATION frames, within limits, before it is decoded at once.
import { ConnectionFault, Flag, FrameType, Http2Code } from './frames.ts';
import type { Http2Limits } from './limits.ts';

export class HeaderBlock {
  #limits: Http2Limits;
  #parts: Uint8Array[] = [];
  #size = 0;
  /** The stream whose CONTINUATION must come next; 0 when none is awaited. */
  awaited = 0;
  endStream = false;

  constructor(limits: Http2Limits) {
    this.#limits = limits;
  }

  /** Takes HEADERS; returns the whole block when END_HEADERS is set. */
  begin(flags: number, streamId: number, payload: Uint8Array): Uint8Array | undefined {
    let fragment = payload;
    if (flags & Flag.padded) {
      const padding = fragment[0] ?? 0;
      if (fragment.length === 0 || padding >= fragment.length) throw fault('padding as long as the HEADERS frame');
      fragment = fragment.subarray(1, fragment.length - padding);
    }
    if (flags & Flag.priority) {
      if (fragment.length < 5) throw new ConnectionFault(Http2Code.frameSizeError, 'HEADERS too short for its priority');
      fragment = fragment.subarray(5);
    }
    this.endStream = (flags & Flag.endStream) !== 0;
    if (fragment.length > this.#limits.headerBlock) throw this.#tooLong();
    if (flags & Flag.endHeaders) return fragment;
    this.awaited = streamId;
    this.#parts = [Uint8Array.from(fragment)];
    this.#size = fragment.length;
    return undefined;
  }

  /** Takes CONTINUATION; returns the whole block when END_HEADERS is set. */
  next(flags: number, payload: Uint8Array): Uint8Array | undefined {
    this.#size += payload.length;
    if (this.#size > this.#limits.headerBlock || this.#parts.length > this.#limits.continuations) throw this.#tooLong();
    this.#parts.push(Uint8Array.from(payload));
    if (!(flags & Flag.endHeaders)) return undefined;
    const block = Buffer.concat(this.#parts);
    this.#parts = [];
    this.awaited = 0;
    return block;
  }

  /** Between HEADERS and END_HEADERS nothing else may come. */
  check(type: number, streamId: number): void {
    if (this.awaited === 0 ? type === FrameType.continuation : type !== FrameType.continuation || streamId !== this.awaited) {
      throw fault(`frame of type ${type} where ${this.awaited === 0 ? 'no CONTINUATION' : 'CONTINUATION'} may come`);
    }
  }

  #tooLong(): ConnectionFault {
    return new ConnectionFault(
      Http2Code.enhanceYourCalm,
      `header block over ${this.#limits.headerBlock} octets or too many frames`,
    );
  }
}

function fault(what: string): ConnectionFault {
  return new ConnectionFault(Http2Code.protocolError, what);
}
