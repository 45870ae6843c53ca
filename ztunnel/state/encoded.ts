// Addresses as they came, for all threads at once: their bytes end to end in shared memory, and beside them a table of where each one is and
// of what it is found by. Who holds a batch needs no decoding to index it, and no memory for each resource but a place in the table.
import { fromBinary } from '@bufbuild/protobuf';
import { MeshError } from '#shared/errors.ts';
import { AddressSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import type { HashIndex } from './hash-index.ts';
import { decodeService, decodeWorkload } from './decode-address.ts';
import type { Service, Workload } from './model.ts';
import { networkAddress } from './model.ts';

export interface EncodedBatch {
  /** Address messages end to end, over shared memory. */
  readonly bytes: Uint8Array;
  /** Entries end to end: the fields of ENTRY, the hashes of addresses, their number of services, and the hashes of those. */
  readonly table: Int32Array;
}

/** By what it is found: hashes, which say where to look and not what is there. */
export interface AddressKeys {
  readonly kind: 'workload' | 'service';
  /** Kept decoded: a workload of this node, or a service with address blocks. */
  readonly pinned: boolean;
  /** Of the uid, or NAMESPACE/HOSTNAME. */
  readonly id: number;
  /** Of NAMESPACE/HOSTNAME of a workload (0: none), of the host name of a service. */
  readonly host: number;
  /** Of NETWORK/IP. */
  readonly addresses: readonly number[];
  /** Of the services that a workload serves. */
  readonly services: readonly number[];
}

export type DecodedAddress =
  | { readonly kind: 'workload'; readonly workload: Workload }
  | { readonly kind: 'service'; readonly service: Service };

/** Places of one entry in the table. */
const ENTRY = { flags: 0, offset: 1, length: 2, id: 3, host: 4, addresses: 5 } as const;
const IS_SERVICE = 1;
const IS_PINNED = 2;

/** Throws `invalid_config` naming the field, or what is wrong with the bytes. `onIgnored` hears of subject names that are no SPIFFE IDs. */
export function decodeAddress(bytes: Uint8Array, onIgnored?: (message: string) => void): DecodedAddress {
  const { type } = fromBinary(AddressSchema, bytes, { readUnknownFields: false });
  switch (type.case) {
    case 'workload':
      return { kind: 'workload', workload: decodeWorkload(type.value) };
    case 'service':
      return { kind: 'service', service: decodeService(type.value, onIgnored) };
    case undefined:
      throw new MeshError('invalid_config', 'the address is neither a workload nor a service');
  }
}

/** 31 bits, the same in every thread of a process with the seed. 0 stands for nothing and is never one. */
export function textHash(text: string, seed: number): number {
  let hash = seed ^ text.length;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01_00_01_93);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c_1b_3c_6d);
  return ((hash ^ (hash >>> 13)) >>> 1) | 1;
}

export function workloadKeys(workload: Workload, pinned: boolean, seed: number): AddressKeys {
  const { uid, namespace, hostname, network, networkMode, ips, services } = workload;
  // Host-network workloads share the node's address and are not found by it.
  const addresses = networkMode === 'HostNetwork' ? [] : ips.map((ip) => textHash(networkAddress(network, ip), seed));
  return {
    kind: 'workload',
    pinned,
    id: textHash(uid, seed),
    host: hostname === '' ? 0 : textHash(`${namespace}/${hostname}`, seed),
    addresses,
    services: Array.from(services.keys(), (key) => textHash(key, seed)),
  };
}

export function serviceKeys({ key, hostname, vips, cidrVips }: Service, seed: number): AddressKeys {
  return {
    kind: 'service',
    pinned: cidrVips.length > 0,
    id: textHash(key, seed),
    host: textHash(hostname, seed),
    addresses: vips.map((vip) => textHash(vip, seed)),
    services: [],
  };
}

/** Bytes of a batch; one resource that is larger has a batch of its own. */
const BATCH = 1 << 20;

/** Puts resources together as they come, so that a whole mesh is never held twice. */
export class BatchWriter {
  readonly #full: EncodedBatch[] = [];
  #bytes = new Uint8Array(4096);
  #table = new Int32Array(256);
  #offset = 0;
  #at = 0;

  /** Copies the bytes. */
  add(bytes: Uint8Array, keys: AddressKeys): void {
    if (this.#offset > 0 && this.#offset + bytes.length > BATCH) this.#close();
    const fields = ENTRY.addresses + 2 + keys.addresses.length + keys.services.length;
    if (this.#offset + bytes.length > this.#bytes.length) this.#bytes = grown(this.#bytes, this.#offset + bytes.length);
    if (this.#at + fields > this.#table.length) this.#table = grown(this.#table, this.#at + fields);
    this.#bytes.set(bytes, this.#offset);
    const flags = (keys.kind === 'service' ? IS_SERVICE : 0) | (keys.pinned ? IS_PINNED : 0);
    for (const value of [flags, this.#offset, bytes.length, keys.id, keys.host]) this.#table[this.#at++] = value;
    for (const list of [keys.addresses, keys.services]) {
      this.#table[this.#at++] = list.length;
      for (const hash of list) this.#table[this.#at++] = hash;
    }
    this.#offset += bytes.length;
  }

  /** What was added since the last call. */
  take(): EncodedBatch[] {
    if (this.#at > 0) this.#close();
    // Room for a large state is not kept for the small changes after it.
    this.#bytes = new Uint8Array(4096);
    this.#table = new Int32Array(256);
    return this.#full.splice(0);
  }

  #close(): void {
    const bytes = new Uint8Array(new SharedArrayBuffer(this.#offset));
    bytes.set(this.#bytes.subarray(0, this.#offset));
    const table = new Int32Array(new SharedArrayBuffer(this.#at * Int32Array.BYTES_PER_ELEMENT));
    table.set(this.#table.subarray(0, this.#at));
    this.#full.push({ bytes, table });
    this.#offset = 0;
    this.#at = 0;
  }
}

function grown<A extends Uint8Array | Int32Array>(array: A, size: number): A {
  const larger = new (array.constructor as new (length: number) => A)(Math.max(size, array.length * 2));
  larger.set(array);
  return larger;
}

/** Where each entry begins in the table. */
export function* entriesOf({ table }: EncodedBatch): Generator<number> {
  for (let at = 0; at < table.length; at = endOf(table, at)) yield at;
}

export function keysAt({ table }: EncodedBatch, at: number): AddressKeys {
  const flags = table[at + ENTRY.flags] ?? 0;
  const services = at + ENTRY.addresses + 1 + (table[at + ENTRY.addresses] ?? 0);
  return {
    kind: (flags & IS_SERVICE) === 0 ? 'workload' : 'service',
    pinned: (flags & IS_PINNED) !== 0,
    id: table[at + ENTRY.id] ?? 0,
    host: table[at + ENTRY.host] ?? 0,
    addresses: Array.from(table.subarray(at + ENTRY.addresses + 1, services)),
    services: Array.from(table.subarray(services + 1, endOf(table, at))),
  };
}

/** As keysAt().kind and .pinned, .id, .host, without an object: a mesh has many entries. */
export function isServiceAt({ table }: EncodedBatch, at: number): boolean {
  return ((table[at + ENTRY.flags] ?? 0) & IS_SERVICE) !== 0;
}

export function isPinnedAt({ table }: EncodedBatch, at: number): boolean {
  return ((table[at + ENTRY.flags] ?? 0) & IS_PINNED) !== 0;
}

export function idAt({ table }: EncodedBatch, at: number): number {
  return table[at + ENTRY.id] ?? 0;
}

export function hostAt({ table }: EncodedBatch, at: number): number {
  return table[at + ENTRY.host] ?? 0;
}

/** The place is found by the entry's addresses, or by its services, from now on. */
export function addHashes(
  { table }: EncodedBatch,
  at: number,
  list: 'addresses' | 'services',
  index: HashIndex,
  place: number,
): void {
  let from = at + ENTRY.addresses;
  if (list === 'services') from += 1 + (table[from] ?? 0);
  const end = from + 1 + (table[from] ?? 0);
  for (let i = from + 1; i < end; i++) index.add(table[i] ?? 0, place);
}

export function lengthAt({ table }: EncodedBatch, at: number): number {
  return table[at + ENTRY.length] ?? 0;
}

export function bytesAt({ bytes, table }: EncodedBatch, at: number): Uint8Array {
  const offset = table[at + ENTRY.offset] ?? 0;
  return bytes.subarray(offset, offset + (table[at + ENTRY.length] ?? 0));
}

function endOf(table: Int32Array, at: number): number {
  const services = at + ENTRY.addresses + 1 + (table[at + ENTRY.addresses] ?? 0);
  return services + 1 + (table[services] ?? 0);
}
