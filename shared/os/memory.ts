// Memory by address, for structures that C code reads or owns. Addresses are numbers here: user space ends at 2^47.
import koffi from 'koffi';
import { checked } from './pointer-check.ts';

export type Address = number;

interface Memcpy {
  out(into: Uint8Array, from: Address, length: number): unknown;
  in(into: Address, from: Uint8Array, length: number): unknown;
}

let bound: Memcpy | undefined;

function memcpy(): Memcpy {
  if (bound) return bound;
  const library = koffi.load(null);
  const calls: Memcpy = {
    out: library.func('memcpy', 'size_t', ['void *', 'size_t', 'size_t']),
    in: library.func('memcpy', 'size_t', ['size_t', 'void *', 'size_t']),
  };
  bound = checked(calls, { out: 'array address size', in: 'address array size' });
  return bound;
}

/** Address of an array's first byte. The caller keeps the array referenced while it is in use. */
export function addressOf(bytes: Uint8Array): Address {
  // Memory of its own first: the bytes of a small array would move with it.
  void bytes.buffer;
  return Number(koffi.address(bytes));
}

/** A copy of memory that C code owns. */
export function copyOf(address: Address, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  if (length > 0) memcpy().out(bytes, address, length);
  return bytes;
}

/** Writes to memory that C code owns. */
export function copyTo(address: Address, bytes: Uint8Array): void {
  if (bytes.length > 0) memcpy().in(address, bytes, bytes.length);
}

/** An array over memory that C code owns: its maker must know that the memory outlives it, or detach() it before. */
export function viewOf(address: Address, length: number): Uint8Array {
  return new Uint8Array(koffi.view(BigInt(address), length));
}

/** From here on every use of the array finds it empty. */
export function detach(view: Uint8Array): void {
  if (view.buffer instanceof ArrayBuffer) view.buffer.transfer(0);
}

/** A pointer variable with an address in it, for calls that read it and move it on. */
export function pointerTo(address: Address): Uint8Array {
  const variable = Buffer.alloc(8);
  variable.writeBigUInt64LE(BigInt(address));
  return variable;
}
