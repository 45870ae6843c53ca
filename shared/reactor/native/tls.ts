// A TLS connection: an OpenSSL session between a stream of ciphertext below (TCP, or a CONNECT stream) and its user above.
import { formatHostPort, type HostPort } from '../../address.ts';
import { MeshError } from '../../errors.ts';
import type { SslSession } from '../../tls/openssl-session.ts';
import { PLAINTEXT_SIZE, threadWire } from '../../tls/wire.ts';
import type { ByteStream, CloseReason, PeerCertificate, StreamHandler, TlsConn, TlsOptions } from '../api.ts';
import { handlerFault } from '../fault.ts';
import type { Loop } from './loop.ts';
import { HIGH_WATER, NativeConn } from './tcp.ts';

const DEFAULT_TIMEOUT = 10_000;
/** Plaintext that is handed up in one call: what a socket refuses of it is kept, and thousands of readers may stall at a time. */
const HANDED_UP = 64 * 1024;
/** Octets that wait for the transport, more than writes of ours ever make (they stop at a mark and encrypt PLAINTEXT_SIZE at a time): answers. */
const MOST_ANSWERS = 2 * PLAINTEXT_SIZE;

export interface Ends {
  local: HostPort;
  remote: HostPort;
  originalDestination(): HostPort;
}

export class NativeTlsConn implements TlsConn, StreamHandler {
  peer: PeerCertificate = { uris: [], serial: '' };
  alpn = '';
  /** Where the transport reads to, when it is a socket: nothing else reads there while one chunk is on its way up. */
  readonly buffer?: () => Uint8Array;
  readonly #transport: ByteStream;
  readonly #wire = threadWire();
  readonly #session: SslSession;
  readonly #loop: Loop;
  readonly #ends: Ends;
  readonly #established = Promise.withResolvers<NativeTlsConn>();
  #options: TlsOptions | undefined;
  #timer: NodeJS.Timeout | undefined;
  #handler: StreamHandler | undefined;
  #paused = false;
  /** Not decrypting, as the peer does not read what OpenSSL answers on its own. */
  #heldBack = false;
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
    const buffer = (): Uint8Array => this.#wire.ciphertext;
    if (transport instanceof NativeConn) this.buffer = buffer;
  }

  /** Starts the transport and shakes hands. On failure the transport is reset. */
  static open(loop: Loop, transport: ByteStream, session: SslSession, ends: Ends, options: TlsOptions): Promise<NativeTlsConn> {
    const conn = new NativeTlsConn(loop, transport, session, ends);
    const timeout = options.timeout ?? DEFAULT_TIMEOUT;
    conn.#options = options;
    conn.#timer = setTimeout(() => conn.#refuse(`not complete after ${timeout} ms`), timeout);
    // The kernel may have no room to watch one more descriptor.
    try {
      transport.start(conn);
      conn.#shakeHands();
    } catch (thrown) {
      conn.#refuse(MeshError.from(thrown).message, thrown);
    }
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

  get unacknowledged(): number | undefined {
    const below = this.#transport.unacknowledged;
    return below === undefined ? undefined : this.#plainSize + below;
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
    // What was not taken yet is given up; the transport tells of its end in a turn of its own, or has ended in order before.
    this.#readEnded = true;
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

  onData(chunk: Uint8Array): void {
    this.#session.feed(chunk);
    try {
      if (this.#options) this.#shakeHands();
      else this.#pump();
    } finally {
      this.#session.keep();
    }
  }

  onEnd(): void {
    if (this.#options) return this.#refuse('the peer closed the connection');
    this.#inputEnded = true;
    return this.#pump();
  }

  onDrain(): void {
    this.#blocked = false;
    this.#flushPlain();
    this.#readOn();
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
      this.alpn = this.#session.alpn;
    } catch (thrown) {
      // The alert that tells the peer why.
      this.#sendCiphertext();
      return this.#refuse(MeshError.from(thrown).message, thrown);
    }
    try {
      this.peer = this.#session.peer;
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
    this.#error = error;
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
      if (!this.#paused && !this.#heldBack && this.#handler) this.#transport.resume();
      this.#tell();
    });
  }

  /** Decrypts what there is and hands it up, until the handler pauses. */
  #pump(): void {
    const handler = this.#handler;
    if (!handler) return;
    while (this.#reads() && this.#session.readable && this.#handUp(handler));
    if (this.#inputEnded && this.#reads()) this.#endOfInput(handler);
  }

  #reads(): boolean {
    return !this.#paused && !this.#heldBack && !this.#readEnded && !this.#stopped();
  }

  /** False when there is nothing more to decrypt. */
  #handUp(handler: StreamHandler): boolean {
    const space = handler.buffer?.();
    if (space) return this.#decryptInto(space, handler);
    // Lent, not the place that sockets read to: the handler may have a TLS session of its own above, which decrypts while this is read.
    const lent = this.#wire.borrow();
    try {
      return this.#decryptInto(lent.subarray(0, HANDED_UP), handler);
    } finally {
      this.#wire.giveBack(lent);
    }
  }

  #decryptInto(space: Uint8Array, handler: StreamHandler): boolean {
    const count = this.#decrypt(space);
    // A peer that changes its keys may ask for new ones of ours.
    if (this.#sendCiphertext() && this.#transport.buffered > MOST_ANSWERS) this.#holdBack();
    if (count > 0) handler.onData(space.subarray(0, count));
    else if (count < 0) this.#endOfInput(handler);
    return count > 0;
  }

  /** A transport that has ended takes no answers, and tells of no room. */
  #holdBack(): void {
    if (this.#writeEnded) return;
    this.#heldBack = true;
    this.#transport.pause();
  }

  #readOn(): void {
    if (!this.#heldBack) return;
    this.#heldBack = false;
    this.#schedulePump();
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

  /** Bytes encrypted before the transport asked for a pause. As many records as there may be in one write: a system call is dear. */
  #encrypt(chunk: Uint8Array): number {
    let taken = 0;
    try {
      while (taken < chunk.length && !this.#blocked) {
        const end = Math.min(chunk.length, taken + PLAINTEXT_SIZE);
        this.#session.write(end - taken === chunk.length ? chunk : chunk.subarray(taken, end));
        taken = end;
        this.#sendCiphertext();
      }
    } catch (thrown) {
      this.#fail(thrown);
    }
    return taken;
  }

  /** False when there is none. */
  #sendCiphertext(): boolean {
    const out = this.#session.take();
    if (out.length === 0) return false;
    if (this.#transport instanceof NativeConn) this.#blocked = !this.#transport.write(out) || this.#blocked;
    else this.#sendCopy(out);
    return true;
  }

  /** A transport that encrypts writes to the same memory that this comes from. */
  #sendCopy(out: Uint8Array): void {
    const space = this.#wire.borrow();
    const copy = out.length > space.length ? new Uint8Array(out) : space.subarray(0, out.length);
    copy.set(out);
    if (!this.#transport.write(copy)) this.#blocked = true;
    this.#wire.giveBack(space);
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
    this.#readOn();
  }

  /** A broken record: this connection ends, with the reason. */
  #fail(thrown: unknown): void {
    const { code, message } = MeshError.from(thrown, 'internal');
    this.#error ??= new MeshError(code, `${formatHostPort(this.remote)}: ${message}`, { cause: thrown });
    // The alert that tells the peer why.
    this.#sendCiphertext();
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

  /** Once: after an orderly end not before everything was read, or will never be. OpenSSL is not on the stack here, so its memory goes too. */
  #tell(): void {
    if (!this.#closed || !(this.#readEnded || this.#stopped())) return;
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
