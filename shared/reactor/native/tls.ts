// A TLS connection: an OpenSSL session between a stream of ciphertext below (TCP, or a CONNECT stream) and its user above.
import { formatHostPort, type HostPort } from '../../address.ts';
import { MeshError } from '../../errors.ts';
import { CIPHERTEXT_SIZE, type SslSession } from '../../tls/openssl-session.ts';
import type { ByteStream, CloseReason, PeerCertificate, StreamHandler, TlsConn, TlsOptions } from '../api.ts';
import { handlerFault } from '../fault.ts';
import type { Loop } from './loop.ts';
import { HIGH_WATER } from './tcp.ts';

const DEFAULT_TIMEOUT = 10_000;
/** Plaintext of the largest record. */
const RECORD_SIZE = 16_384;

export interface Ends {
  local: HostPort;
  remote: HostPort;
  originalDestination(): HostPort;
}

export class NativeTlsConn implements TlsConn, StreamHandler {
  peer: PeerCertificate = { uris: [], serial: '' };
  alpn = '';
  readonly #transport: ByteStream;
  readonly #session: SslSession;
  readonly #loop: Loop;
  readonly #ends: Ends;
  readonly #established = Promise.withResolvers<NativeTlsConn>();
  #options: TlsOptions | undefined;
  #timer: NodeJS.Timeout | undefined;
  #handler: StreamHandler | undefined;
  #paused = false;
  #pumpDue = false;
  /** The ciphertext below has ended. */
  #inputEnded = false;
  #readEnded = false;
  #ending = false;
  #writeEnded = false;
  /** Plaintext that found no room. */
  #plain: Uint8Array[] = [];
  #plainSize = 0;
  #blocked = false;
  #wantDrain = false;
  #error: MeshError | undefined;
  #closed: CloseReason | undefined;
  #told = false;

  private constructor(loop: Loop, transport: ByteStream, session: SslSession, ends: Ends) {
    this.#loop = loop;
    this.#transport = transport;
    this.#session = session;
    this.#ends = ends;
  }

  /** Starts the transport and shakes hands. On failure the transport is reset. */
  static open(loop: Loop, transport: ByteStream, session: SslSession, ends: Ends, options: TlsOptions): Promise<NativeTlsConn> {
    const conn = new NativeTlsConn(loop, transport, session, ends);
    const timeout = options.timeout ?? DEFAULT_TIMEOUT;
    conn.#options = options;
    conn.#timer = setTimeout(() => conn.#refuse(`not complete after ${timeout} ms`), timeout);
    transport.start(conn);
    conn.#shakeHands();
    return conn.#established.promise;
  }

  get local(): HostPort {
    return this.#ends.local;
  }

  get remote(): HostPort {
    return this.#ends.remote;
  }

  originalDestination(): HostPort {
    return this.#ends.originalDestination();
  }

  get buffered(): number {
    return this.#plainSize + this.#transport.buffered;
  }

  start(handler: StreamHandler): void {
    this.#handler = handler;
    this.#schedulePump();
  }

  write(chunk: Uint8Array): boolean {
    if (this.#closed || this.#error || this.#ending) return true;
    const taken = this.#plain.length > 0 || this.#blocked ? 0 : this.#encrypt(chunk);
    if (taken < chunk.length) {
      this.#plain.push(Uint8Array.from(chunk.subarray(taken)));
      this.#plainSize += chunk.length - taken;
    }
    this.#wantDrain ||= this.#blocked || this.buffered >= HIGH_WATER;
    return !this.#wantDrain;
  }

  end(): void {
    if (this.#closed || this.#ending) return;
    this.#ending = true;
    this.#finishWriting();
  }

  reset(code?: number): void {
    // After the transport has ended in order, what a paused reader has not taken yet is given up.
    this.#readEnded ||= this.#closed !== undefined;
    this.#transport.reset(code);
    if (this.#closed) this.#schedulePump();
  }

  pause(): void {
    this.#paused = true;
    this.#transport.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#schedulePump();
  }

  // The transport's handler.

  buffer(): Uint8Array {
    return this.#loop.scratch.subarray(0, CIPHERTEXT_SIZE);
  }

  onData(chunk: Uint8Array): void {
    try {
      this.#session.feed(chunk);
    } catch (thrown) {
      return this.#fail(thrown);
    }
    return this.#options ? this.#shakeHands() : this.#pump();
  }

  onEnd(): void {
    if (this.#options) return this.#refuse('the peer closed the connection');
    this.#inputEnded = true;
    return this.#pump();
  }

  onDrain(): void {
    this.#blocked = false;
    this.#flushPlain();
    if (!this.#wantDrain || this.#blocked || this.#plain.length > 0) return;
    this.#wantDrain = false;
    if (!this.#ending) this.#handler?.onDrain();
  }

  onClose(reason: CloseReason): void {
    this.#closed = this.#error ? { kind: 'error', error: this.#error } : reason;
    if (this.#options) this.#refuse(reason.kind === 'error' ? reason.error.message : 'the peer closed the connection');
    this.#plain = [];
    this.#plainSize = 0;
    this.#schedulePump();
  }

  #shakeHands(): void {
    const options = this.#options;
    if (!options) return;
    try {
      const done = this.#session.handshake();
      this.#sendCiphertext();
      if (!done) return;
      this.peer = this.#session.peer;
      this.alpn = this.#session.alpn;
    } catch (thrown) {
      // The alert that tells the peer why.
      this.#sendCiphertext();
      return this.#refuse(MeshError.from(thrown).message, thrown);
    }
    try {
      options.verifyPeer(this.peer);
    } catch (thrown) {
      return this.#refuseWith(MeshError.from(thrown, 'tls_failure'));
    }
    this.#options = undefined;
    clearTimeout(this.#timer);
    // Data may have come with the handshake's last flight; it waits for start().
    this.#transport.pause();
    return this.#established.resolve(this);
  }

  #refuse(reason: string, cause?: unknown): void {
    this.#refuseWith(new MeshError('tls_failure', `tls handshake error: ${formatHostPort(this.remote)}: ${reason}`, { cause }));
  }

  #refuseWith(error: MeshError): void {
    if (!this.#options) return;
    this.#options = undefined;
    clearTimeout(this.#timer);
    this.#established.reject(error);
    // An alert on its way is dropped by a reset, so the connection ends in order when there was one to send.
    this.#transport.end();
    this.#loop.defer(() => this.#transport.reset());
  }

  #schedulePump(): void {
    if (this.#pumpDue) return;
    this.#pumpDue = true;
    this.#loop.defer(() => {
      this.#pumpDue = false;
      try {
        this.#pump();
      } catch (thrown) {
        this.#fault(thrown);
      }
      if (!this.#paused && this.#handler) this.#transport.resume();
      this.#tell();
    });
  }

  /** Decrypts what there is and hands it up, until the handler pauses. */
  #pump(): void {
    const handler = this.#handler;
    if (!handler) return;
    let more = true;
    while (more && !this.#paused && !this.#readEnded && !this.#stopped()) {
      const space = handler.buffer?.();
      // Lent, not the shared scratch: the handler may have a TLS session of its own above, which decrypts while this plaintext is read.
      more = space ? this.#handUp(handler, space) : this.#loop.lend((lent) => this.#handUp(handler, lent));
    }
  }

  /** False when there is nothing more to decrypt. */
  #handUp(handler: StreamHandler, space: Uint8Array): boolean {
    const count = this.#decryptBatch(space);
    if (count > 0) handler.onData(space.subarray(0, count));
    else if (count < 0 || (this.#inputEnded && !this.#error)) this.#endOfInput(handler);
    else return false;
    return true;
  }

  /** As many records as are there and fit, so that whoever gets them writes them on at once. */
  #decryptBatch(space: Uint8Array): number {
    let filled = this.#decrypt(space);
    while (filled > 0 && space.length - filled >= RECORD_SIZE) {
      const count = this.#decrypt(space.subarray(filled));
      if (count <= 0) break;
      filled += count;
    }
    return filled;
  }

  #decrypt(space: Uint8Array): number {
    try {
      return this.#session.read(space);
    } catch (thrown) {
      this.#fail(thrown);
      return 0;
    }
  }

  #endOfInput(handler: StreamHandler): void {
    this.#readEnded = true;
    handler.onEnd();
  }

  /** Bytes encrypted before the transport asked for a pause. */
  #encrypt(chunk: Uint8Array): number {
    let taken = 0;
    try {
      while (taken < chunk.length && !this.#blocked) taken += this.#encryptBatch(taken === 0 ? chunk : chunk.subarray(taken));
    } catch (thrown) {
      this.#fail(thrown);
    }
    return taken;
  }

  /** As many records as fit what the loop lends, in one write: a system call for each would cost more than its encryption. */
  #encryptBatch(chunk: Uint8Array): number {
    return this.#loop.lend((out) => {
      let [taken, filled] = [0, 0];
      while (taken < chunk.length && filled + CIPHERTEXT_SIZE <= out.length) {
        taken += this.#session.write(taken === 0 ? chunk : chunk.subarray(taken));
        filled += this.#session.drain(filled === 0 ? out : out.subarray(filled));
      }
      if (filled > 0 && !this.#transport.write(out.subarray(0, filled))) this.#blocked = true;
      return taken;
    });
  }

  #sendCiphertext(): void {
    this.#loop.lend((out) => {
      for (let count = this.#session.drain(out); count > 0; count = this.#session.drain(out))
        if (!this.#transport.write(out.subarray(0, count))) this.#blocked = true;
    });
  }

  #flushPlain(): void {
    for (let chunk = this.#plain[0]; chunk && !this.#blocked && !this.#error; chunk = this.#plain[0]) {
      const taken = this.#encrypt(chunk);
      this.#plainSize -= taken;
      if (taken < chunk.length) this.#plain[0] = chunk.subarray(taken);
      else this.#plain.shift();
    }
    if (this.#ending) this.#finishWriting();
  }

  #finishWriting(): void {
    if (this.#writeEnded || this.#plain.length > 0) return;
    this.#writeEnded = true;
    this.#session.closeNotify();
    this.#sendCiphertext();
    this.#transport.end();
  }

  /** A broken record: this connection ends, with the reason. */
  #fail(thrown: unknown): void {
    const { code, message } = MeshError.from(thrown, 'internal');
    this.#error ??= new MeshError(code, `${formatHostPort(this.remote)}: ${message}`, { cause: thrown });
    this.#transport.reset();
  }

  /** The handler failed, in a turn that began here: one that began in the transport ends the transport. */
  #fault(thrown: unknown): void {
    const error = handlerFault(this.remote, thrown);
    this.#error ??= error;
    this.#transport.reset();
    this.#loop.report(error);
  }

  #stopped(): boolean {
    return this.#error !== undefined || (this.#closed !== undefined && this.#closed.kind !== 'ended');
  }

  /** Once: after an orderly end not before everything was read. OpenSSL is not on the stack here, so its memory goes too. */
  #tell(): void {
    if (!this.#closed || (this.#closed.kind === 'ended' && !this.#readEnded)) return;
    this.#session.free();
    if (this.#told || !this.#handler) return;
    this.#told = true;
    try {
      this.#handler.onClose(this.#closed);
    } catch (thrown) {
      this.#loop.report(handlerFault(this.remote, thrown));
    }
  }
}
