// What peers send that break the rules of HTTP/2 or flood it, each with the error that its connection ends with.
import { encodeSettings, Flag, FrameType, PREFACE, SettingId, type SettingList } from '#shared/http2/frames.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { frame, type HeaderMaker, OPENING, REQUEST, SETTINGS, uint32 } from './raw-http2.ts';

/** Makes HEADERS frames with the state of one connection. */
type Maker = Pick<HeaderMaker, 'headers'>;

const OPEN = Flag.endHeaders;
const settings = (list: SettingList): Buffer => frame(FrameType.settings, 0, 0, encodeSettings(list));

/** After these the connection ends with GOAWAY and an error of that name. */
export const CONNECTION_FAULTS: [what: string, code: string, send: (peer: Maker) => Uint8Array[]][] = [
  ['no preface', 'PROTOCOL_ERROR', () => [Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n')]],
  ['first frame is no SETTINGS', 'PROTOCOL_ERROR', () => [PREFACE, frame(FrameType.ping, 0, 0, Buffer.alloc(8))]],
  ['frame too large', 'FRAME_SIZE_ERROR', () => [OPENING, Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])]],
  ['DATA on stream 0', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.data, 0, 0, Buffer.alloc(3))]],
  ['DATA on an idle stream', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.data, 0, 1, Buffer.alloc(3))]],
  [
    'DATA all padding',
    'PROTOCOL_ERROR',
    (p) => [OPENING, p.headers(1, REQUEST), frame(FrameType.data, Flag.padded, 1, Buffer.from([5, 0]))],
  ],
  ['HEADERS on stream 0', 'PROTOCOL_ERROR', (p) => [OPENING, p.headers(0, REQUEST)]],
  ['HEADERS on an even stream', 'PROTOCOL_ERROR', (p) => [OPENING, p.headers(2, REQUEST)]],
  ['HEADERS all padding', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.headers, OPEN | Flag.padded, 1, Buffer.from([9]))]],
  ['HPACK index 0', 'COMPRESSION_ERROR', () => [OPENING, frame(FrameType.headers, OPEN, 1, Buffer.from([0x80]))]],
  ['HPACK no such entry', 'COMPRESSION_ERROR', () => [OPENING, frame(FrameType.headers, OPEN, 1, Buffer.from([0xff, 0x20]))]],
  ['HPACK cut string', 'COMPRESSION_ERROR', () => [OPENING, frame(FrameType.headers, OPEN, 1, Buffer.from([0x40, 9, 1]))]],
  ['HPACK late size update', 'COMPRESSION_ERROR', () => [OPENING, frame(FrameType.headers, OPEN, 1, Buffer.from([0x82, 0x20]))]],
  [
    'HPACK size over the limit',
    'COMPRESSION_ERROR',
    () => [OPENING, frame(FrameType.headers, OPEN, 1, Buffer.from([0x3f, 0xe2, 0x1f]))],
  ],
  ['HPACK long integer', 'COMPRESSION_ERROR', () => [OPENING, frame(FrameType.headers, OPEN, 1, Buffer.alloc(12, 0xff))]],
  ['DATA within a header block', 'PROTOCOL_ERROR', (p) => [OPENING, p.headers(1, REQUEST, 0), frame(FrameType.data, 0, 1)]],
  [
    'CONTINUATION of another stream',
    'PROTOCOL_ERROR',
    (p) => [OPENING, p.headers(1, REQUEST, 0), frame(FrameType.continuation, 4, 3)],
  ],
  ['CONTINUATION alone', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.continuation, 4, 1)]],
  ['RST_STREAM on an idle stream', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.rstStream, 0, 1, uint32(8))]],
  [
    'RST_STREAM of 3 octets',
    'FRAME_SIZE_ERROR',
    (p) => [OPENING, p.headers(1, REQUEST), frame(FrameType.rstStream, 0, 1, Buffer.alloc(3))],
  ],
  ['SETTINGS for a stream', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.settings, 0, 1)]],
  ['SETTINGS of 5 octets', 'FRAME_SIZE_ERROR', () => [OPENING, frame(FrameType.settings, 0, 0, Buffer.alloc(5))]],
  ['SETTINGS ACK with octets', 'FRAME_SIZE_ERROR', () => [OPENING, frame(FrameType.settings, 1, 0, Buffer.alloc(6))]],
  ['ENABLE_PUSH 2', 'PROTOCOL_ERROR', () => [OPENING, settings([[SettingId.enablePush, 2]])]],
  ['INITIAL_WINDOW_SIZE 2^31', 'FLOW_CONTROL_ERROR', () => [OPENING, settings([[SettingId.initialWindowSize, 2 ** 31]])]],
  ['MAX_FRAME_SIZE 100', 'PROTOCOL_ERROR', () => [OPENING, settings([[SettingId.maxFrameSize, 100]])]],
  ['PING of 7 octets', 'FRAME_SIZE_ERROR', () => [OPENING, frame(FrameType.ping, 0, 0, Buffer.alloc(7))]],
  ['PING for a stream', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.ping, 0, 1, Buffer.alloc(8))]],
  ['PUSH_PROMISE', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.pushPromise, 4, 1, uint32(2))]],
  ['WINDOW_UPDATE 0', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.windowUpdate, 0, 0, uint32(0))]],
  ['WINDOW_UPDATE over 2^31-1', 'FLOW_CONTROL_ERROR', () => [OPENING, frame(FrameType.windowUpdate, 0, 0, uint32(2 ** 31 - 1))]],
  ['WINDOW_UPDATE on an idle stream', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.windowUpdate, 0, 1, uint32(1))]],
  ['GOAWAY for a stream', 'PROTOCOL_ERROR', () => [OPENING, frame(FrameType.goaway, 0, 1, Buffer.alloc(8))]],
  ['PRIORITY of 4 octets', 'FRAME_SIZE_ERROR', () => [OPENING, frame(FrameType.priority, 0, 1, Buffer.alloc(4))]],
];

/** More frames without effect than are allowed in the second or two that they take on a busy machine. */
const IDLE = 60_000;
const repeat = (count: number, make: (i: number) => Uint8Array): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));
const id = (i: number): number => i * 2 + 1;

/** Frames for a stream that the peer has reset. */
function closed(make: (id: number) => Uint8Array): (peer: Maker, request: HeaderList) => Uint8Array {
  return (peer, request) =>
    Buffer.concat([peer.headers(1, request), frame(FrameType.rstStream, 0, 1, uint32(8)), repeat(IDLE, () => make(1))]);
}

/** Each costs more than it is worth: the connection ends with ENHANCE_YOUR_CALM. `request` is one that is not answered at once. */
export const FLOODS: [what: string, send: (peer: Maker, request: HeaderList) => Uint8Array][] = [
  [
    'rapid reset',
    (p, request) =>
      // More than are allowed in the second or two that a busy ztunnel takes to begin so many tunnels.
      repeat(10_000, (i) => Buffer.concat([p.headers(id(i), request), frame(FrameType.rstStream, 0, id(i), uint32(8))])),
  ],
  ['refused streams', (p, request) => repeat(3000, (i) => p.headers(id(i), request))],
  ['malformed requests', (p) => repeat(3000, (i) => p.headers(id(i), []))],
  ['PING', () => repeat(3000, () => frame(FrameType.ping, 0, 0, Buffer.alloc(8)))],
  ['SETTINGS', () => repeat(3000, () => SETTINGS)],
  ['empty DATA', (p, request) => Buffer.concat([p.headers(1, request), repeat(IDLE, () => frame(FrameType.data, 0, 1))])],
  ['PRIORITY', () => repeat(IDLE, () => frame(FrameType.priority, 0, 1, Buffer.alloc(5)))],
  ['PING ACK', () => repeat(IDLE, () => frame(FrameType.ping, Flag.ack, 0, Buffer.alloc(8)))],
  ['SETTINGS ACK', () => repeat(IDLE, () => frame(FrameType.settings, Flag.ack, 0))],
  [
    'GOAWAY',
    (p, request) =>
      Buffer.concat([p.headers(1, request), repeat(IDLE, () => frame(FrameType.goaway, 0, 0, uint32(2 ** 31 - 1, 0)))]),
  ],
  ['WINDOW_UPDATE of the connection', () => repeat(IDLE, () => frame(FrameType.windowUpdate, 0, 0, uint32(1)))],
  [
    'WINDOW_UPDATE of a stream',
    (p, request) => Buffer.concat([p.headers(1, request), repeat(IDLE, () => frame(FrameType.windowUpdate, 0, 1, uint32(1)))]),
  ],
  ['WINDOW_UPDATE of a closed stream', closed((id) => frame(FrameType.windowUpdate, 0, id, uint32(1)))],
  ['RST_STREAM of a closed stream', closed((id) => frame(FrameType.rstStream, 0, id, uint32(8)))],
  ['DATA of a closed stream', closed((id) => frame(FrameType.data, 0, id, Buffer.alloc(1)))],
  ['unknown frames', () => repeat(IDLE, () => frame(99, 0, 1))],
  [
    'CONTINUATION',
    (p, request) => Buffer.concat([p.headers(1, request, 0), repeat(1000, () => frame(FrameType.continuation, 0, 1))]),
  ],
  [
    'large CONTINUATION',
    (p, request) =>
      Buffer.concat([p.headers(1, request, 0), repeat(10, () => frame(FrameType.continuation, 0, 1, Buffer.alloc(16_000)))]),
  ],
  ['large HEADERS', () => frame(FrameType.headers, Flag.endHeaders, 1, Buffer.alloc(200_000))],
];
