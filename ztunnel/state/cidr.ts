// Address blocks.

export interface Cidr {
  /** Network-order bytes, 4 or 16. */
  readonly bytes: Uint8Array;
  readonly length: number;
}

/** Whether the block holds the address; addresses of the other family are outside. */
export function contains({ bytes, length }: Cidr, ip: Uint8Array): boolean {
  if (bytes.length !== ip.length) return false;
  const whole = length >> 3;
  for (let i = 0; i < whole; i++) if (bytes[i] !== ip[i]) return false;
  const rest = length & 7;
  if (rest === 0) return true;
  const mask = (0xff << (8 - rest)) & 0xff;
  return ((bytes[whole] ?? 0) & mask) === ((ip[whole] ?? 0) & mask);
}
