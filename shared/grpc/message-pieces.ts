// A message of tens of megabytes comes in pieces, which grpc-js joins, and keeps until the next message begins (1.14: StreamDecoder clears
// `readPartialMessage` then). The first state of a large mesh would be in memory twice for as long as nothing changes.
import { StreamDecoder } from '@grpc/grpc-js/build/src/stream-decoder.js';

const RELEASES = Symbol('releases pieces');
/** Of grpc-js: no message is under way. */
const NO_DATA = 0;

interface Decoder {
  readState: number;
  readPartialMessage: Buffer[];
  write: (this: Decoder, data: Buffer) => Buffer[];
  [RELEASES]?: true;
}

/** From now on, in this thread, the pieces of a message are free once it is whole. A change of grpc-js that makes this do nothing fails a test. */
export function releaseMessagePieces(): void {
  const decoder = StreamDecoder.prototype as unknown as Decoder;
  if (decoder[RELEASES]) return;
  decoder[RELEASES] = true;
  const { write } = decoder;
  decoder.write = function releasing(this: Decoder, data) {
    const messages = write.call(this, data);
    if (this.readState === NO_DATA) this.readPartialMessage = [];
    return messages;
  };
}
