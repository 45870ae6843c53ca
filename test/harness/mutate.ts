// Breaks bytes the way hostile and broken peers do, from a seed, so that a failure can be repeated.

/** A small random generator (mulberry32): the same seed gives the same run. */
export function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const INTERESTING = [0, 1, 9, 10, 13, 32, 58, 0x7f, 0x80, 0xff];

/** A copy with one to four faults: flipped bits, set octets, cuts, repeats, insertions. */
export function mutate(bytes: Uint8Array, below: (limit: number) => number): Buffer {
  let result = Buffer.from(bytes);
  for (let faults = 1 + below(4); faults > 0 && result.length > 0; faults--) {
    const at = below(result.length);
    const length = 1 + below(Math.min(20, result.length - at));
    switch (below(6)) {
      case 0:
        result[at]! ^= 1 << below(8);
        break;
      case 1:
        result[at] = INTERESTING[below(INTERESTING.length)]!;
        break;
      case 2:
        result[at] = below(256);
        break;
      case 3:
        result = Buffer.concat([result.subarray(0, at), result.subarray(at + length)]);
        break;
      case 4:
        result = Buffer.concat([result.subarray(0, at + length), result.subarray(at)]);
        break;
      default:
        result = Buffer.concat([
          result.subarray(0, at),
          Buffer.from(Array.from({ length }, () => below(256))),
          result.subarray(at),
        ]);
    }
  }
  return result;
}

/** Pieces of random sizes. */
export function pieces(bytes: Buffer, below: (limit: number) => number): Buffer[] {
  const list: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const size = 1 + below(below(2) === 0 ? 5 : 2000);
    list.push(bytes.subarray(at, at + size));
    at += size;
  }
  return list;
}
