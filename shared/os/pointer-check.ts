// CULVERT_DEBUG_POINTERS=1: every descriptor, array, length and pointer is looked at before the kernel or OpenSSL gets it. Only then are the
// bindings wrapped; otherwise they are what koffi made of them, and this costs nothing.
import { MeshError } from '../errors.ts';
import { faultOf, noteMemory } from './known-memory.ts';
import { EPOLL_EVENT } from './layout.ts';

/**
 * What each argument of a call must be, in words between spaces; more arguments may follow.
 * - `-` anything; `fd` a descriptor; `array` a live array, or null where C takes NULL; `>=N` one with at least N bytes; `address` any pointer but NULL
 * - `size` no more than the bytes of the array before it; `sizeIn` an int32 in an array that says so; `events` a count of epoll events in it
 * - any other word names a kind of pointer that a call made (`-> kind`, or `+kind` for an argument that it made one) and no call has freed (`~kind`)
 *
 * `-> memory` is memory of as many bytes as the first argument says.
 */
export type Shape = string;

/** What words cannot say of the arguments of a call: throws through `fail` when they are wrong. `call` is the call without checks. */
export type Rule<F> = F extends (...values: infer V) => unknown ? (fail: Fail, call: F, ...values: V) => void : never;
export type Rules<T> = { readonly [K in keyof T]?: Rule<T[K]> };
export type Fail = (argument: number, reason: string) => void;

type Call = (...values: unknown[]) => unknown;
type AnyRule = (fail: Fail, call: Call, ...values: unknown[]) => void;

/** Read here and not in a main.ts: the first call comes before any configuration, and in every thread. */
export function pointersAreChecked(): boolean {
  // oxlint-disable-next-line no-restricted-properties
  return process.env['CULVERT_DEBUG_POINTERS'] === '1';
}

/** Pointers made and not freed, by kind. Of the thread, as the bindings are. */
const live = new Map<string, Set<unknown>>();

/** The bindings as they are, or wrapped when pointers are checked. A fault is an `internal` MeshError that names call and argument. */
export function checked<T extends object>(calls: T, shapes: Partial<Record<keyof T, Shape>>, rules: Rules<T> = {}): T {
  if (!pointersAreChecked()) return calls;
  const wrapped = Object.entries(calls).map(([name, call]): [string, unknown] => {
    const shape = shapes[name as keyof T];
    const rule = rules[name as keyof T] as AnyRule | undefined;
    return [name, shape === undefined || typeof call !== 'function' ? call : wrap(name, call as Call, shape, rule)];
  });
  return Object.fromEntries(wrapped) as T;
}

/** Throws unless the array is live and has `at` bytes. */
export function checkRange(what: string, bytes: Uint8Array, at: number): void {
  checkArray(what, bytes);
  checkSize(what, at, bytes.length);
}

/** Throws unless an address can be one, and has so many bytes behind it where the memory is known. */
export function checkMemory(what: string, address: unknown, length: number): void {
  const reason = faultOf(address, length);
  if (reason !== undefined) throw fault(what, reason);
}

function wrap(name: string, call: Call, shape: Shape, rule: AnyRule | undefined): Call {
  const [takes = '', makes] = shape.split('->').map((part) => part.trim());
  const kinds = takes.split(' ').filter((word) => word !== '');
  return (...values) => {
    for (const [index, kind] of kinds.entries()) check(`${name}: argument ${index + 1}`, kind, values, index);
    rule?.(
      (argument, reason) => {
        throw fault(`${name}: argument ${argument}`, reason);
      },
      call,
      ...values,
    );
    const result = call(...values);
    for (const [index, kind] of kinds.entries()) {
      if (kind.startsWith('~')) live.get(kind.slice(1))?.delete(values[index]);
      if (kind.startsWith('+') && Number(result) >= 0) liveOf(kind.slice(1)).add(values[index]);
    }
    if (makes === 'memory' && result !== 0) noteMemory(Number(result), Number(values[0]));
    else if (makes !== undefined && result !== 0 && result !== null) liveOf(makes).add(result);
    return result;
  };
}

function check(what: string, kind: string, values: readonly unknown[], index: number): void {
  const value = values[index];
  switch (kind) {
    case '-':
      return undefined;
    case 'fd':
      return checkSize(what, value, 0x7fffffff);
    case 'array':
      return value === null ? undefined : checkArray(what, value);
    case 'address':
      return checkAddress(what, value);
    case 'size':
      return checkSize(what, value, lengthBefore(values, index));
    case 'events':
      return checkSize(what, value, lengthBefore(values, index) / EPOLL_EVENT.size);
    case 'sizeIn':
      if (value === null) return undefined;
      checkArray(what, value);
      return checkSize(what, Buffer.from((value as Uint8Array).subarray(0, 4)).readInt32LE(), lengthBefore(values, index));
    default:
      if (kind.startsWith('>=')) {
        checkArray(what, value);
        return checkSize(what, Number(kind.slice(2)), (value as Uint8Array).length);
      }
      if (kind.startsWith('+')) return checkArray(what, value);
      return checkLive(what, kind.replace('~', ''), value);
  }
}

function checkArray(what: string, value: unknown): void {
  if (!(value instanceof Uint8Array)) throw fault(what, 'not an array of bytes');
  if (value.buffer instanceof ArrayBuffer && value.buffer.detached) throw fault(what, 'an array whose memory is gone');
}

function checkSize(what: string, value: unknown, most: number): void {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0)
    throw fault(what, `${String(value)} is no length or descriptor`);
  if (value > most) throw fault(what, `${value} is more than ${most}`);
}

function checkAddress(what: string, value: unknown): void {
  checkMemory(what, value, 0);
}

/** Most pointers are numbers; a handle of libuv is the array that it is in, and a loop what koffi makes of a `void *`. */
function checkLive(what: string, kind: string, value: unknown): void {
  if (value === null || typeof value === 'number') checkAddress(what, value);
  const shown = value instanceof Uint8Array ? 'this array' : String(value);
  if (!liveOf(kind).has(value)) throw fault(what, `${shown} is no ${kind}, or was freed`);
}

/** Whether it is of this kind, and not freed. */
export function isLive(kind: string, value: unknown): boolean {
  return liveOf(kind).has(value);
}

/** Of the array that stands nearest before an argument; NULL has no bytes. */
function lengthBefore(values: readonly unknown[], index: number): number {
  return values.slice(0, index).findLast((value) => value instanceof Uint8Array)?.length ?? 0;
}

function liveOf(kind: string): Set<unknown> {
  const set = live.get(kind) ?? new Set();
  live.set(kind, set);
  return set;
}

function fault(what: string, reason: string): MeshError {
  return new MeshError('internal', `pointer check: ${what}: ${reason}`);
}
