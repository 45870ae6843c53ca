// Memory whose bounds are known while pointers are checked: our arrays whose address was taken, what CRYPTO_malloc gave, what a view lies over.
// An address in one of them must stay in it for all the bytes that are read or written there.

/** Behind the last address that a process can have: 47 bits on x86-64, 48 on arm64. */
const USER_SPACE = 2 ** 48;
/** Below it nothing is ever mapped. */
const FIRST_ADDRESS = 4096;
/** Arrays that were collected are forgotten once so many regions are known. */
const SWEEP_AT = 512;

interface Region {
  readonly length: number;
  /** Of an array: gone with it. */
  readonly owner?: WeakRef<ArrayBufferLike>;
}

/** By the address of the first byte. Of the thread, as arrays are; what another thread has is not known here. */
const regions = new Map<number, Region>();

export function noteArray(address: number, { buffer, length }: Uint8Array): void {
  if (regions.size >= SWEEP_AT) for (const [start, region] of regions) if (!isLive(region)) regions.delete(start);
  const known = regions.get(address);
  // An array and a part of it may begin at the same place: the bounds are those of the larger one.
  if (known && isLive(known) && known.length > length) return;
  regions.set(address, { length, owner: new WeakRef(buffer) });
}

export function noteMemory(address: number, length: number): void {
  regions.set(address, { length });
}

export function forgetMemory(address: number): void {
  regions.delete(address);
}

/** What is wrong with reading or writing so many bytes there; undefined: nothing that can be known. */
export function faultOf(address: unknown, length: number): string | undefined {
  if (typeof address !== 'number' || !Number.isSafeInteger(address) || address < FIRST_ADDRESS || address >= USER_SPACE)
    return `${String(address)} is no address`;
  if (!Number.isSafeInteger(length) || length < 0) return `${length} is no length`;
  if (address + length > USER_SPACE) return `${length} bytes reach beyond the memory of a process`;
  const around = regionsAround(address);
  if (around.length === 0) return undefined;
  const most = Math.max(...around.map(({ start, region }) => start + region.length - address));
  return length <= most ? undefined : `${length} is more than the ${most} bytes that are there`;
}

/** Whether all of these bytes are in memory that is known. */
export function isKnown(address: number, length: number): boolean {
  return regionsAround(address).length > 0 && faultOf(address, length) === undefined;
}

/** Whether known memory has bytes in this range. */
export function overlapsKnown(address: number, length: number): boolean {
  return [...regions].some(([start, region]) => isLive(region) && start < address + length && address < start + region.length);
}

function regionsAround(address: number): { start: number; region: Region }[] {
  const found = [];
  for (const [start, region] of regions)
    if (start <= address && address < start + region.length && isLive(region)) found.push({ start, region });
  return found;
}

function isLive({ owner }: Region): boolean {
  if (!owner) return true;
  const buffer = owner.deref();
  return buffer !== undefined && !(buffer instanceof ArrayBuffer && buffer.detached);
}
