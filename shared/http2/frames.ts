// The wire vocabulary of HTTP/2 (RFC 9113): frame types, flags, settings, error codes, and the connection-level fault.

export const FrameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const Flag = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const Http2Code = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  connectError: 10,
  enhanceYourCalm: 11,
  inadequateSecurity: 12,
  http11Required: 13,
} as const;

export const SettingId = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
  enableConnectProtocol: 8,
  /** Ours, of the range for experiments: this server takes DATA before its answer to CONNECT (decision 0026). */
  earlyData: 0xf0e1,
} as const;

export const FRAME_HEADER_SIZE = 9;
export const DEFAULT_WINDOW = 65_535;
export const DEFAULT_FRAME_SIZE = 16_384;
export const MAX_FRAME_SIZE = 2 ** 24 - 1;
export const MAX_WINDOW = 2 ** 31 - 1;
export const MAX_STREAM_ID = 2 ** 31 - 1;

/** What a client sends before its first frame. */
export const PREFACE = new TextEncoder().encode('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** The peer broke the protocol: the connection ends with GOAWAY `code`, and nothing else does. */
export class ConnectionFault extends Error {
  override readonly name = 'ConnectionFault';
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** `PROTOCOL_ERROR` of 1, `error 99` of an unknown one. */
export function codeName(code: number): string {
  const name = Object.entries(Http2Code).find(([, value]) => value === code)?.[0];
  return name === undefined ? `error ${code}` : name.replaceAll(/[A-Z]|\d+/gu, (part) => `_${part}`).toUpperCase();
}

/** Writes the 9 octets in front of a payload; returns the offset of the payload. */
export function writeFrameHeader(
  into: Uint8Array,
  at: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): number {
  into[at] = length >>> 16;
  into[at + 1] = (length >>> 8) & 0xff;
  into[at + 2] = length & 0xff;
  into[at + 3] = type;
  into[at + 4] = flags;
  writeUint32(into, at + 5, streamId);
  return at + FRAME_HEADER_SIZE;
}

export function writeUint32(into: Uint8Array, at: number, value: number): void {
  into[at] = (value >>> 24) & 0xff;
  into[at + 1] = (value >>> 16) & 0xff;
  into[at + 2] = (value >>> 8) & 0xff;
  into[at + 3] = value & 0xff;
}

export function readUint32(from: Uint8Array, at: number): number {
  return (((from[at] ?? 0) << 24) | ((from[at + 1] ?? 0) << 16) | ((from[at + 2] ?? 0) << 8) | (from[at + 3] ?? 0)) >>> 0;
}

/** A stream id or window increment: the reserved top bit is ignored. */
export function readUint31(from: Uint8Array, at: number): number {
  return readUint32(from, at) & 0x7fffffff;
}

export type SettingList = readonly (readonly [id: number, value: number])[];

export function encodeSettings(settings: SettingList): Uint8Array {
  const payload = new Uint8Array(settings.length * 6);
  settings.forEach(([id, value], i) => {
    payload[i * 6] = id >>> 8;
    payload[i * 6 + 1] = id & 0xff;
    writeUint32(payload, i * 6 + 2, value);
  });
  return payload;
}

/** The caller checked that the length is a multiple of 6. */
export function decodeSettings(payload: Uint8Array): SettingList {
  return Array.from({ length: payload.length / 6 }, (_, i) => [
    ((payload[i * 6] ?? 0) << 8) | (payload[i * 6 + 1] ?? 0),
    readUint32(payload, i * 6 + 2),
  ]);
}
