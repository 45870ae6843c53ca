// The Huffman code of HPACK (RFC 7541, appendix B). It is canonical: the code lengths alone define it.
import { ConnectionFault, Http2Code } from '../frames.ts';

/** Code length in bits of each octet, then of EOS. */
const LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22,
  23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22,
  21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26,
  27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26,
  26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
] as const;

const EOS = 256;
/** Most octets that padding may hold back: the code of EOS is all ones, and padding is shorter than an octet. */
const MAX_PADDING = 7;

const CODES = canonicalCodes();
const MACHINE = decodeMachine();

/** Octets that `text` (latin1) takes in Huffman code. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += LENGTHS[text.charCodeAt(i) & 0xff] ?? 0;
  return (bits + 7) >> 3;
}

/** Writes the Huffman code of `text` (latin1) at `offset`; returns the offset behind it. The caller made room by huffmanLength(). */
export function huffmanEncode(text: string, into: Uint8Array, offset: number): number {
  let pending = 0;
  let bits = 0;
  for (let i = 0; i < text.length; i++) {
    const octet = text.charCodeAt(i) & 0xff;
    let left = LENGTHS[octet] ?? 0;
    const code = CODES[octet] ?? 0;
    // At most 7 bits are pending, so a code of up to 30 goes in two steps to stay within 32.
    while (left > 0) {
      const take = Math.min(left, 24 - bits);
      left -= take;
      pending = (pending << take) | ((code >>> left) & ((1 << take) - 1));
      bits += take;
      while (bits >= 8) {
        bits -= 8;
        into[offset++] = (pending >>> bits) & 0xff;
      }
      pending &= (1 << bits) - 1;
    }
  }
  if (bits > 0) into[offset++] = ((pending << (8 - bits)) | ((1 << (8 - bits)) - 1)) & 0xff;
  return offset;
}

/** Decodes input[from, to) into `into` from its start; returns the count. A code never yields more than 8/5 octets per octet. */
export function huffmanDecode(input: Uint8Array, from: number, to: number, into: Uint8Array): number {
  let state = 0;
  let count = 0;
  for (let i = from; i < to; i++) {
    const octet = input[i] ?? 0;
    for (let shift = 4; shift >= 0; shift -= 4) {
      const step = MACHINE.steps[state * 16 + ((octet >> shift) & 15)] ?? -1;
      if (step < 0) throw new ConnectionFault(Http2Code.compressionError, 'Huffman code holds EOS');
      if (step & 0x10000) into[count++] = (step >> 17) & 0xff;
      state = step & 0xffff;
    }
  }
  if (!MACHINE.accepts[state]) throw new ConnectionFault(Http2Code.compressionError, 'Huffman padding is not the start of EOS');
  return count;
}

function canonicalCodes(): Uint32Array {
  const codes = new Uint32Array(LENGTHS.length);
  let code = 0;
  for (let length = 1; length <= 30; length++) {
    LENGTHS.forEach((own, symbol) => {
      if (own === length) codes[symbol] = code++;
    });
    code <<= 1;
  }
  return codes;
}

/**
 * A state is an inner node of the code tree; a step eats four bits and yields at most one octet (no code is shorter than five).
 * A step is next state | (0x10000 | octet << 17 when an octet ends), or -1 for EOS.
 */
function decodeMachine(): { steps: Int32Array; accepts: Uint8Array } {
  // children[node * 2 + bit]: a node, or ~symbol at a leaf.
  const children: number[] = [0, 0];
  const depth = [0];
  const allOnes = [true];
  LENGTHS.forEach((length, symbol) => {
    const code = CODES[symbol] ?? 0;
    let node = 0;
    for (let bit = length - 1; bit > 0; bit--) {
      const way = (code >>> bit) & 1;
      let next = children[node * 2 + way] ?? 0;
      if (next === 0) {
        next = depth.length;
        children[node * 2 + way] = next;
        children.push(0, 0);
        depth.push((depth[node] ?? 0) + 1);
        allOnes.push(allOnes[node] === true && way === 1);
      }
      node = next;
    }
    children[node * 2 + (code & 1)] = ~symbol;
  });
  const steps = new Int32Array(depth.length * 16);
  for (let start = 0; start < depth.length; start++) {
    for (let nibble = 0; nibble < 16; nibble++) {
      let node = start;
      let step = 0;
      for (let bit = 3; bit >= 0 && step >= 0; bit--) {
        node = children[node * 2 + ((nibble >> bit) & 1)] ?? 0;
        if (node >= 0) continue;
        step = ~node === EOS ? -1 : 0x10000 | (~node << 17);
        node = 0;
      }
      steps[start * 16 + nibble] = step < 0 ? -1 : step | node;
    }
  }
  return { steps, accepts: Uint8Array.from(depth, (own, node) => (own <= MAX_PADDING && allOnes[node] ? 1 : 0)) };
}
