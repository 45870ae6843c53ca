// Where OpenSSL reads ciphertext from and writes it to: two memory BIOs per thread that all of its sessions share, each for the time of one
// call. So a session has no buffers of its own while it is idle, what comes from a peer is read where read(2) put it, and what goes to it is
// sent from where OpenSSL put it.
//
// A memory BIO keeps its bytes in a BUF_MEM {size_t length; char *data; size_t max; unsigned long flags}. Both of ours are in JavaScript's
// memory, so their state is set and seen without a call. A read-only memory BIO moves `data` on and `length` down as it is read.
import { checkRange, pointersAreChecked } from '../os/pointer-check.ts';
import { addressOf, detach, viewOf, type Address } from '../os/memory.ts';
import { BIO_C_SET_BUF_MEM, must, openssl, type Pointer } from './openssl.ts';

/**
 * Ciphertext that one read(2) brings, as much as one send(2) of a peer like us, and so the most that a session whose reader has paused can
 * hold.
 */
export const CIPHERTEXT_SIZE = 516 * 1024;
/**
 * Plaintext that is encrypted in one go and leaves in one send(2): the kernel then makes packets of 64 KB, and both ends wake up seldom. A
 * stream through two ztunnels took 2.1 CPU s/GB with 32 KB (4.6 Gbit/s), 1.73 with 256 KB (6.4), 1.66 with this (6.5), 1.65 with 1 MB (6.0).
 */
export const PLAINTEXT_SIZE = 512 * 1024;
/** Once that much was written to it, the outgoing memory is used from its start again. */
const REWIND_AT = 16 * 1024;
/** Room for PLAINTEXT_SIZE in records. */
const RECORDS_SIZE = PLAINTEXT_SIZE + 8 * 1024;
/** OpenSSL makes it larger when it is not enough. */
const OUTGOING_SIZE = RECORDS_SIZE + 2 * REWIND_AT;
const BIO_FLAGS_MEM_RDONLY = 0x200;
/** Indices into a BUF_MEM seen as 32-bit words. */
const [LENGTH, DATA, MAX, WORDS] = [0, 2, 4, 8];

const NOTHING = new Uint8Array(0);

export class Wire {
  /** Read-only; in use by every session of the thread. */
  readonly input: Pointer;
  readonly output: Pointer;
  /** Where connections read ciphertext to. Valid during one callback. */
  readonly ciphertext: Uint8Array = new Uint8Array(CIPHERTEXT_SIZE);
  readonly #in = new Uint32Array(WORDS);
  readonly #out = new Uint32Array(WORDS);
  readonly #outAddress: Address;
  readonly #lent: Uint8Array[] = [];
  /** The memory that was offered last, and its address. */
  #memory: ArrayBufferLike = this.ciphertext.buffer;
  #base: Address = addressOf(this.ciphertext);
  #view: Uint8Array;
  #viewed: Address;
  #taken = 0;

  constructor() {
    const ssl = openssl();
    const bio = (struct: Uint32Array): Pointer => {
      const pointer = must(ssl.BIO_new(ssl.BIO_s_mem()), 'create a memory buffer');
      must(ssl.BIO_ctrl(pointer, BIO_C_SET_BUF_MEM, 0, addressOf(bytesOf(struct))), 'set a memory buffer');
      return pointer;
    };
    this.input = bio(this.#in);
    ssl.BIO_set_flags(this.input, BIO_FLAGS_MEM_RDONLY);
    this.#viewed = must(ssl.CRYPTO_malloc(OUTGOING_SIZE, 'wire', 0), 'allocate the outgoing memory');
    this.#view = viewOf(this.#viewed, OUTGOING_SIZE);
    set(this.#out, this.#viewed, 0, OUTGOING_SIZE);
    this.output = bio(this.#out);
    this.#outAddress = addressOf(bytesOf(this.#out));
  }

  /** Lets the next call of OpenSSL read `chunk` from `at` on. The caller keeps the chunk as it is until then. */
  offer(chunk: Uint8Array, at: number): void {
    if (chunk.buffer !== this.#memory) {
      this.#memory = chunk.buffer;
      this.#base = addressOf(new Uint8Array(chunk.buffer));
    }
    const length = chunk.length - at;
    set(this.#in, this.#base + chunk.byteOffset + at, length, length);
  }

  offerNothing(): void {
    this.#in[LENGTH] = 0;
  }

  /** Bytes of what was offered that OpenSSL has not read. */
  get unread(): number {
    return this.#in[LENGTH] ?? 0;
  }

  /** What OpenSSL wrote since the last take(); valid until its next call. */
  take(): Uint8Array {
    const length = this.#out[LENGTH] ?? 0;
    if (length === this.#taken) return NOTHING;
    const data = addressIn(this.#out);
    if (data !== this.#viewed) this.#follow(data);
    const written = this.#view.subarray(this.#taken, length);
    this.#taken = length;
    return written;
  }

  /** OpenSSL wrote something that nobody took yet. */
  get untaken(): boolean {
    return this.#out[LENGTH] !== this.#taken;
  }

  /** Before a call that may write. What nobody took is dropped: it is for another peer than what comes now. */
  makeRoom(): void {
    if (this.#taken < REWIND_AT && this.#taken === this.#out[LENGTH]) return;
    this.#taken = 0;
    this.#out[LENGTH] = 0;
    openssl().BIO_ctrl(this.output, BIO_C_SET_BUF_MEM, 0, this.#outAddress);
  }

  /** Lends an array with room for PLAINTEXT_SIZE in records, until giveBack(). A stack, because the transport of one TLS session may be another one. */
  borrow(): Uint8Array {
    return this.#lent.pop() ?? new Uint8Array(RECORDS_SIZE);
  }

  giveBack(space: Uint8Array): void {
    this.#lent.push(space);
  }

  /** OpenSSL has moved the outgoing memory to where it has more room. */
  #follow(data: Address): void {
    detach(this.#view);
    this.#view = viewOf(data, this.#out[MAX] ?? 0);
    this.#viewed = data;
  }
}

/** CULVERT_DEBUG_POINTERS=1. */
class CheckedWire extends Wire {
  #offered = 0;

  override offer(chunk: Uint8Array, at: number): void {
    checkRange('ciphertext for OpenSSL', chunk, at);
    this.#offered = chunk.length - at;
    super.offer(chunk, at);
  }

  override offerNothing(): void {
    this.#offered = 0;
    super.offerNothing();
  }

  override get unread(): number {
    checkRange('ciphertext that OpenSSL left', new Uint8Array(this.#offered), super.unread);
    return super.unread;
  }

  override take(): Uint8Array {
    const written = super.take();
    checkRange('ciphertext that OpenSSL wrote', written, written.length);
    return written;
  }
}

let ofThread: Wire | undefined;

export function threadWire(): Wire {
  ofThread ??= pointersAreChecked() ? new CheckedWire() : new Wire();
  return ofThread;
}

function set(struct: Uint32Array, data: Address, length: number, max: number): void {
  struct[LENGTH] = length;
  struct[DATA] = data >>> 0;
  struct[DATA + 1] = Math.floor(data / 2 ** 32);
  struct[MAX] = max;
}

function addressIn(struct: Uint32Array): Address {
  return (struct[DATA] ?? 0) + (struct[DATA + 1] ?? 0) * 2 ** 32;
}

function bytesOf(struct: Uint32Array): Uint8Array {
  return new Uint8Array(struct.buffer);
}
