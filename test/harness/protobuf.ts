// Protobuf messages put together by hand, by field number: what the generated code is tested against, as it would agree with itself on a
// wrong number. https://protobuf.dev/programming-guides/encoding/

const VARINT = 0;
const LENGTH_DELIMITED = 2;

/** Base 128, the lowest seven bits first. */
function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(Math.floor(value / 0x80))];
}

/** An integer, a boolean (1) or an enum. */
export function number(field: number, value: number): Buffer {
  return Buffer.from([...varint((field << 3) | VARINT), ...varint(value)]);
}

export function bytes(field: number, value: Uint8Array | readonly number[]): Buffer {
  return Buffer.from([...varint((field << 3) | LENGTH_DELIMITED), ...varint(value.length), ...value]);
}

export function text(field: number, value: string): Buffer {
  return bytes(field, Buffer.from(value));
}

/** A message within a message. */
export function message(field: number, ...parts: Uint8Array[]): Buffer {
  return bytes(field, Buffer.concat(parts));
}

/** Numbers of a repeated field, as proto3 packs them. */
export function packed(field: number, ...values: number[]): Buffer {
  return bytes(field, values.flatMap(varint));
}
