// What each side announces in SETTINGS.
import {
  ConnectionFault,
  DEFAULT_FRAME_SIZE,
  DEFAULT_WINDOW,
  Http2Code,
  MAX_FRAME_SIZE,
  MAX_WINDOW,
  SettingId,
  type SettingList,
} from './frames.ts';

/** What this side announces and keeps. Sizes in octets. */
export interface LocalSettings {
  /** Window of a new stream. */
  streamWindow: number;
  /** What it may grow to while its reader keeps up; also the most that a stalled stream makes this side hold. */
  maxStreamWindow: number;
  /** What may be under way on the connection, and by how much the windows of its streams may grow in all. */
  connectionWindow: number;
  frameSize: number;
  headerListSize: number;
  headerTableSize: number;
  /** Streams that the peer may have open; undefined: not announced (a client, which accepts none). */
  maxStreams: number | undefined;
  /** A server's: what is behind a CONNECT may come before its answer. */
  earlyData?: boolean;
}

/** As Istio's ztunnel announces (facts: ztunnel 5), but for the window of a new stream, which grows to what it is there (flow.ts). */
export const DEFAULT_SETTINGS: LocalSettings = {
  streamWindow: 262_144,
  maxStreamWindow: 4_194_304,
  connectionWindow: 16_777_216,
  frameSize: 1_048_576,
  headerListSize: 65_536,
  headerTableSize: 4096,
  maxStreams: 200,
};

export function settingList(settings: LocalSettings, role: 'client' | 'server'): SettingList {
  return [
    ...(role === 'client' ? [[SettingId.enablePush, 0] as const] : []),
    ...(settings.maxStreams === undefined ? [] : [[SettingId.maxConcurrentStreams, settings.maxStreams] as const]),
    [SettingId.headerTableSize, settings.headerTableSize],
    [SettingId.initialWindowSize, settings.streamWindow],
    [SettingId.maxFrameSize, settings.frameSize],
    [SettingId.maxHeaderListSize, settings.headerListSize],
    ...(settings.earlyData ? [[SettingId.earlyData, 1] as const] : []),
  ];
}

/** What the peer announced; the defaults of RFC 9113 until it did. */
export class PeerSettings {
  initialWindow = DEFAULT_WINDOW;
  maxFrameSize = DEFAULT_FRAME_SIZE;
  headerTableSize = 4096;
  /** Undefined: the peer did not say. */
  maxStreams: number | undefined;
  /** Extended CONNECT (RFC 8441). */
  connectProtocol = false;
  earlyData = false;
  received = false;

  /** Throws ConnectionFault on a value out of range. Unknown settings are ignored. */
  apply(list: SettingList, role: 'client' | 'server'): void {
    this.received = true;
    for (const [id, value] of list) {
      switch (id) {
        case SettingId.headerTableSize:
          this.headerTableSize = value;
          break;
        case SettingId.enablePush:
          check(value === 0 || (value === 1 && role === 'server'), Http2Code.protocolError, 'ENABLE_PUSH', value);
          break;
        case SettingId.maxConcurrentStreams:
          this.maxStreams = value;
          break;
        case SettingId.initialWindowSize:
          check(value <= MAX_WINDOW, Http2Code.flowControlError, 'INITIAL_WINDOW_SIZE', value);
          this.initialWindow = value;
          break;
        case SettingId.maxFrameSize:
          check(value >= DEFAULT_FRAME_SIZE && value <= MAX_FRAME_SIZE, Http2Code.protocolError, 'MAX_FRAME_SIZE', value);
          this.maxFrameSize = value;
          break;
        case SettingId.enableConnectProtocol:
          check(value <= 1, Http2Code.protocolError, 'ENABLE_CONNECT_PROTOCOL', value);
          this.connectProtocol = value === 1;
          break;
        case SettingId.earlyData:
          this.earlyData = value === 1;
          break;
        default:
      }
    }
  }
}

function check(ok: boolean, code: number, name: string, value: number): void {
  if (!ok) throw new ConnectionFault(code, `SETTINGS_${name} is ${value}`);
}
