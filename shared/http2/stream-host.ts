// What a stream asks of its session.
import type { HeaderList } from './headers.ts';
import type { Http2Stream } from './stream.ts';

export interface StreamHost {
  /** Takes octets of chunk from `from` as windows and output allow; returns where it stopped. */
  sendData(stream: Http2Stream, chunk: Uint8Array, from: number): number;
  sendHeaders(stream: Http2Stream, headers: HeaderList, endStream: boolean): void;
  sendEnd(stream: Http2Stream): void;
  sendReset(stream: Http2Stream, code: number): void;
  sendWindowUpdate(stream: Http2Stream, increment: number): void;
  /** Room in the output buffer for the next DATA of this stream; see Http2Stream.space(). */
  space(stream: Http2Stream): Uint8Array | undefined;
  /** The stream has octets or an end that wait for a window. */
  waiting(stream: Http2Stream): void;
  /** Runs the task at the end of the turn, outside of any call into the stream. */
  later(task: () => void): void;
  /** Both directions have ended, or the stream was reset: it no longer counts. */
  forget(stream: Http2Stream): void;
}
