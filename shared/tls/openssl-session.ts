// A TLS session over OpenSSL: turns ciphertext into plaintext and back, and touches no socket. It reads ciphertext where its user has it and
// leaves ciphertext for the peer in the thread's wire, from where its user takes it before the next call of any session.
import { MeshError } from '../errors.ts';
import { copyOf } from '../os/memory.ts';
import type { PeerCertificate } from '../reactor/api.ts';
import type { SslContext } from './openssl-context.ts';
import { KEY_UPDATE, lastErrorIsOfTls, must, openssl, SSL_ERROR, takeError, type OpenSsl, type Pointer } from './openssl.ts';
import { readChain, readPeer } from './peer-certificate.ts';
import { threadWire, type Wire } from './wire.ts';

/** Plaintext of the largest record. */
const RECORD_SIZE = 16_384;
const NONE = new Uint8Array(0);

export class SslSession {
  readonly pointer: Pointer;
  /** Keeps the context from being freed while a handshake may still ask for its protocols. */
  readonly context: SslContext;
  readonly #ssl: OpenSsl = openssl();
  readonly #wire: Wire = threadWire();
  /** Ciphertext from the peer; what is before #at was read. */
  #input: Uint8Array = NONE;
  #at = 0;
  /** A record was decrypted and not yet read to its end. */
  #withinRecord = false;
  /** Encrypted with this side's present key. */
  #records = 0;
  #ended = false;
  #failed: MeshError | undefined;
  #freed = false;

  constructor(context: SslContext) {
    this.context = context;
    this.pointer = must(this.#ssl.SSL_new(context.pointer), 'create a TLS session');
    this.#ssl.BIO_up_ref(this.#wire.input);
    this.#ssl.BIO_up_ref(this.#wire.output);
    this.#ssl.SSL_set_bio(this.pointer, this.#wire.input, this.#wire.output);
  }

  /** Hands in ciphertext from the peer, which must stay as it is until keep(). */
  feed(chunk: Uint8Array): void {
    if (this.#over || chunk.length === 0) return;
    this.#input = this.#unread === 0 ? chunk : Buffer.concat([this.#input.subarray(this.#at), chunk]);
    this.#at = 0;
  }

  /** Keeps what was not read of what was fed, so that its memory may be used again. */
  keep(): void {
    this.#input = this.#unread === 0 || this.#freed ? NONE : new Uint8Array(this.#input.subarray(this.#at));
    this.#at = 0;
  }

  /** False when read() has nothing to say before the next feed(). */
  get readable(): boolean {
    return this.#unread > 0 || this.#withinRecord || this.#ended || this.#failed !== undefined;
  }

  /** Goes on with the handshake; true when it is done. Throws the reason when it failed. */
  handshake(): boolean {
    this.#ssl.ERR_clear_error();
    this.#wire.makeRoom();
    this.#offer();
    const result = this.#ssl.SSL_do_handshake(this.pointer);
    this.#consume();
    if (result === 1) return true;
    if (!this.#wantsMore(result)) throw this.#reason();
    return false;
  }

  /**
   * Bytes of plaintext, of as many records as are there and fit, up to one that OpenSSL answers: 0 when more ciphertext is needed, -1 when the peer ended its direction.
   * Throws when a record is broken, after what came before it was read.
   */
  read(into: Uint8Array): number {
    if (this.#freed) return 0;
    let filled = 0;
    do {
      const count = this.#decrypt(filled === 0 ? into : into.subarray(filled));
      if (count === 0) break;
      filled += count;
      // An answer of OpenSSL's own (a KeyUpdate) is taken first: the next record would drop it, and the peer miss the change of keys.
    } while (into.length - filled >= RECORD_SIZE && this.readable && !this.#wire.untaken);
    if (filled > 0) return filled;
    if (this.#failed) throw this.#failed;
    return this.#ended ? -1 : 0;
  }

  /** Encrypts it all. */
  write(chunk: Uint8Array): void {
    if (this.#freed || chunk.length === 0) return;
    if (this.#records >= this.context.recordsPerKey) this.#renewKey();
    this.#records += Math.ceil(chunk.length / RECORD_SIZE);
    this.#wire.makeRoom();
    this.#wire.offerNothing();
    if (this.#ssl.SSL_write(this.pointer, chunk, chunk.length) !== chunk.length) throw this.#reason();
  }

  /** Ciphertext for the peer since the last call: after whatever was called, and before anything else is. */
  take(): Uint8Array {
    return this.#wire.take();
  }

  /** Tells the peer that this direction has ended. */
  closeNotify(): void {
    if (this.#freed) return;
    this.#wire.makeRoom();
    this.#wire.offerNothing();
    if (this.#ssl.SSL_shutdown(this.pointer) < 0) this.#ssl.ERR_clear_error();
  }

  /** After the handshake. */
  get alpn(): string {
    const [data, length] = [Buffer.alloc(8), Buffer.alloc(4)];
    this.#ssl.SSL_get0_alpn_selected(this.pointer, data, length);
    const size = length.readUInt32LE();
    return size === 0 ? '' : copyOf(Number(data.readBigUInt64LE()), size).toString('latin1');
  }

  /** After the handshake, which has verified the chain. Throws when a certificate of it is revoked. */
  get peer(): PeerCertificate {
    const certificate = this.#ssl.SSL_get0_peer_certificate(this.pointer);
    if (certificate === 0) throw new MeshError('tls_failure', 'the peer presented no certificate');
    const { revocations } = this.context;
    if (!revocations) return readPeer(certificate);
    const chain = readChain(this.#ssl.SSL_get0_verified_chain(this.pointer));
    const refusal = revocations.refusal(chain);
    if (refusal) throw refusal;
    return { ...readPeer(certificate), chain };
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.keep();
    this.#ssl.SSL_free(this.pointer);
  }

  /** What comes now is for nobody: behind the end of TLS a peer may still send whatever it likes, for as long as it likes. */
  get #over(): boolean {
    return this.#freed || this.#ended || this.#failed !== undefined;
  }

  get #unread(): number {
    return this.#input.length - this.#at;
  }

  /** Goes out in front of the next data. The peer's direction is the peer's. TLS 1.2 has no such thing. */
  #renewKey(): void {
    this.#records = 0;
    if (this.#ssl.SSL_key_update(this.pointer, KEY_UPDATE.NOT_REQUESTED) !== 1) this.#ssl.ERR_clear_error();
  }

  #offer(): void {
    if (this.#unread > 0) this.#wire.offer(this.#input, this.#at);
    else this.#wire.offerNothing();
  }

  #consume(): void {
    this.#at = this.#input.length - this.#wire.unread;
  }

  /** Bytes of one record, or of the rest of one; 0 when there is none. */
  #decrypt(space: Uint8Array): number {
    if (this.#failed || this.#ended) return 0;
    this.#wire.makeRoom();
    this.#offer();
    const count = this.#ssl.SSL_read(this.pointer, space, space.length);
    this.#consume();
    this.#withinRecord = count === space.length;
    if (count > 0) return count;
    if (this.#wantsMore(count)) return 0;
    // Asked while the error is there to be seen: without it a fatal alert looks like an orderly end.
    const ended = this.#ssl.SSL_get_error(this.pointer, count) === SSL_ERROR.ZERO_RETURN;
    const reason = this.#reason();
    if (ended) this.#ended = true;
    else this.#failed = reason;
    this.#input = NONE;
    this.#at = 0;
    return 0;
  }

  /** Whether a call failed for want of ciphertext only. */
  #wantsMore(result: number): boolean {
    const error = this.#ssl.SSL_get_error(this.pointer, result);
    if (error !== SSL_ERROR.SSL || lastErrorIsOfTls()) return error === SSL_ERROR.WANT_READ;
    // Emptying the queue before each call, as others do, costs more than most of the calls.
    this.#ssl.ERR_clear_error();
    return this.#ssl.SSL_get_error(this.pointer, result) === SSL_ERROR.WANT_READ;
  }

  /** Empties the error queue too. */
  #reason(): MeshError {
    const verdict = this.#ssl.SSL_get_verify_result(this.pointer);
    const reason = takeError('broken TLS stream');
    return new MeshError('tls_failure', verdict === 0 ? reason : (this.#ssl.X509_verify_cert_error_string(verdict) ?? reason));
  }
}
