// Memory by address, for structures that C code reads or owns. Addresses are numbers here: user space ends at 2^47.
import koffi from 'koffi';
import { forgetMemory, noteArray, noteMemory } from './known-memory.ts';
import { checked, checkMemory, pointersAreChecked } from './pointer-check.ts';

export type Address = number;

interface Memcpy {
  out(into: Uint8Array, from: Address, length: number): unknown;
  in(into: Address, from: Uint8Array, length: number): unknown;
}

const checking = pointersAreChecked();
let bound: Memcpy | undefined;

function memcpy(): Memcpy {
  if (bound) return bound;
  const library = koffi.load(null);
  const calls: Memcpy = {
    out: library.func('memcpy', 'size_t', ['void *', 'size_t', 'size_t']),
    in: library.func('memcpy', 'size_t', ['size_t', 'void *', 'size_t']),
  };
  bound = checked(
    calls,
    { out: 'array address size', in: 'address array size' },
    {
      out: (_fail, _call, _into, from, length) => checkMemory('memory to copy from', from, length),
      in: (_fail, _call, into, _from, length) => checkMemory('memory to copy to', into, length),
    },
  );
  return bound;
}

/** Address of an array's first byte. The caller keeps the array referenced while it is in use. */
export function addressOf(bytes: Uint8Array): Address {
  // Memory of its own first: the bytes of a small array would move with it.
  void bytes.buffer;
  const address = Number(koffi.address(bytes));
  if (checking) noteArray(address, bytes);
  return address;
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
  if (checking) checkMemory('memory to look at', address, length);
  const view = new Uint8Array(koffi.view(BigInt(address), length));
  if (checking) {
    noteMemory(address, length);
    viewed.set(view, address);
  }
  return view;
}

/** Only while pointers are checked. */
const viewed = new WeakMap<Uint8Array, Address>();

/** From here on every use of the array finds it empty. */
export function detach(view: Uint8Array): void {
  const address = viewed.get(view);
  if (address !== undefined) forgetMemory(address);
  if (view.buffer instanceof ArrayBuffer) view.buffer.transfer(0);
}

/** A pointer variable with an address in it, for calls that read it and move it on. */
export function pointerTo(address: Address): Uint8Array {
  const variable = Buffer.alloc(8);
  variable.writeBigUInt64LE(BigInt(address));
  return variable;
}
