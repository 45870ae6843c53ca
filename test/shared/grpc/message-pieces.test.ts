// grpc-js as it is installed, with what it keeps taken from it: fails when a version of it no longer has what is taken.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { StreamDecoder } from '@grpc/grpc-js/build/src/stream-decoder.js';
import t from 'tap';
import { releaseMessagePieces } from '#shared/grpc/message-pieces.ts';

/** A gRPC message: its flags, its length, and that many octets. */
function framed(size: number): Buffer {
  const message = Buffer.alloc(5 + size, 7);
  message.writeUInt8(0, 0);
  message.writeUInt32BE(size, 1);
  return message;
}

t.test('the pieces of a message go when it is whole, and messages stay what they were', async (t) => {
  releaseMessagePieces();
  releaseMessagePieces();
  const decoder = new StreamDecoder(-1);
  const pieces: WeakRef<ArrayBufferLike>[] = [];
  const give = (bytes: Buffer): Buffer[] => {
    // A piece of its own memory, as Node reads from a socket.
    const piece = Buffer.from(Uint8Array.from(bytes).buffer);
    pieces.push(new WeakRef(piece.buffer));
    return decoder.write(piece);
  };
  const message = framed(300_000);
  t.strictSame(give(message.subarray(0, 3)), []);
  for (let at = 3; at < 299_000; at += 16_000) t.strictSame(give(message.subarray(at, Math.min(at + 16_000, 299_000))), []);
  t.ok(give(message.subarray(299_000))[0]?.equals(message));
  await new Promise(setImmediate);
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const held = pieces.filter((piece) => piece.deref() !== undefined);
  t.ok(held.length <= 1, `of ${pieces.length} pieces ${held.length} are held; one has the flags of the message`);

  const [first, ...others] = give(Buffer.concat([framed(5), framed(0), framed(10).subarray(0, 7)]));
  t.ok(first?.equals(framed(5)));
  t.strictSame(others, [framed(0)]);
  t.strictSame(give(framed(10).subarray(7)), [framed(10)]);
});
