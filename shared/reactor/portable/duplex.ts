// A Node Duplex over any ByteStream, so that node:tls can run inside a CONNECT stream (double HBONE).
import { Duplex } from 'node:stream';
import type { ByteStream, CloseReason } from '../api.ts';

/** An error as the kernel's RST would give it, with the RST_STREAM code when there was one. */
class StreamReset extends Error {
  readonly code = 'ECONNRESET';
  readonly streamCode: number | undefined;

  constructor(streamCode: number | undefined) {
    super('the stream was reset');
    this.streamCode = streamCode;
  }
}

/** Starts the stream. Destroying the Duplex before its end, or with an error, resets the stream. */
export function duplexOver(stream: ByteStream): Duplex {
  let drained: (() => void) | undefined;
  let closed = false;
  let writeEnded = false;
  const duplex = new Duplex({
    allowHalfOpen: true,
    // The TLS socket above destroys it when it has been read to its end, which may be later than the end of this.
    autoDestroy: false,
    read: () => stream.resume(),
    write(chunk: Buffer, _encoding, done) {
      if (stream.write(chunk)) done();
      else drained = done;
    },
    final(done) {
      writeEnded = true;
      stream.end();
      done();
    },
    destroy(error, done) {
      // TLS is over with its own last message: what is still on its way below may finish, and the stream's own end is waited for.
      if (error || !writeEnded) stream.reset();
      else if (!closed) stream.resume();
      done(error);
    },
  });
  stream.start({
    onData(chunk) {
      if (!duplex.destroyed && !duplex.push(Buffer.from(chunk))) stream.pause();
    },
    onEnd: () => void duplex.push(null),
    onDrain() {
      const done = drained;
      drained = undefined;
      done?.();
    },
    onClose(reason) {
      closed = true;
      if (reason.kind !== 'ended') duplex.destroy(errorOf(reason));
    },
  });
  return duplex;
}

function errorOf(reason: Exclude<CloseReason, { kind: 'ended' }>): Error {
  return reason.kind === 'error' ? reason.error : new StreamReset(reason.code);
}
