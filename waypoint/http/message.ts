// One request and its response as the exchange sees them, whatever the version of HTTP on either side.
import type { ByteStream, CloseReason } from '#shared/reactor/api.ts';
import type { HeaderPair, RequestHead, ResponseHead } from './request.ts';

/** Events of a body. Rules as for StreamHandler: chunks are valid during the call, onClose comes once and last. */
export interface BodyHandler {
  onData(chunk: Uint8Array): void;
  /** Before onEnd, when there are any. */
  onTrailers(trailers: readonly HeaderPair[]): void;
  onEnd(): void;
  onDrain(): void;
  onClose(reason: CloseReason): void;
}

export interface MessageStream {
  start(handler: BodyHandler): void;
  /** False: hold back until onDrain. */
  write(chunk: Uint8Array): boolean;
  end(trailers?: readonly HeaderPair[]): void;
  reset(): void;
  pause(): void;
  resume(): void;
}

/** A request that came in. */
export interface ServerMessage extends MessageStream {
  readonly head: RequestHead;
  /** The request has no body: onEnd comes at once. */
  readonly ended: boolean;
  /** Nobody reads the body (any more): what still comes is dropped. */
  discard(): void;
  /** Sends a 1xx head. */
  inform(head: ResponseHead): void;
  /** Sends the head; `ended`: and nothing after it. */
  respond(head: ResponseHead, ended: boolean): void;
  /** After a 101 answer: the bytes of the connection itself. */
  upgrade?(head: ResponseHead): ByteStream;
}

export interface ResponseEvents {
  onInformational(head: ResponseHead): void;
  /** The final head. */
  onResponse(head: ResponseHead, ended: boolean): void;
  /** A 101 answer: the bytes of the connection itself follow, and no other event. */
  onUpgrade?(head: ResponseHead, stream: ByteStream): void;
}

/** A request that was sent. */
export interface ClientMessage extends MessageStream {}

/** A connection that takes requests one after another, or many at once. */
export interface ClientConnection {
  /** Requests it would take now. */
  readonly available: number;
  /** False: closed, or it takes no more requests. */
  readonly usable: boolean;
  /** Throws when it does not take the request; those under way on it are not concerned. */
  request(head: RequestHead, ended: boolean, events: ResponseEvents): ClientMessage;
  /** It was made for a request that is not sent after all: another one may have it. */
  returnUnused(): void;
  close(): void;
}
