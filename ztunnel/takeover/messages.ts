// What an old and a new ztunnel say to each other over takeover.sock: one JSON object per packet, with at most one descriptor beside it
// (docs/upgrade.md). `hello` and `refused` stay as they are in every version, so that any two understand why they cannot go on.
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { RelayStory } from '../proxy/relay-book.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { OpenResult } from '../telemetry/connection-result.ts';
import type { FamilyReport } from './counters.ts';

/** Of the messages below. Another one is refused, and the old ztunnel goes on. */
export const VERSION = 2;

export type Message =
  /** Both say it first; `build` is for logs. */
  | { readonly type: 'hello'; readonly version: number; readonly build: string }
  /** The sender goes on as if nobody had asked. */
  | { readonly type: 'refused'; readonly reason: string }
  /**
   * New to old: I could serve; give me the pods. `relays`: and, once I serve, the relays of plain sockets. `own`: and your own pod; older
   * builds do not know of that.
   */
  | { readonly type: 'give'; readonly relays: boolean; readonly own?: boolean }
  /** With the descriptor of its namespace. `reuse`: its ports may be bound again beside the listeners that follow. */
  | { readonly type: 'pod'; readonly uid: string; readonly who: PodIdentity; readonly reuse: boolean }
  /** With the descriptor of a listening socket of the last pod. Sockets of one `set` were served by one thread. */
  | {
      readonly type: 'listener';
      readonly set: number;
      readonly port: number;
      readonly address: HostPort;
      readonly transparent: boolean;
    }
  /** That was everything. */
  | { readonly type: 'all'; readonly pods: number }
  /** New to old: I accept connections of all of them. There is no way back from here. */
  | { readonly type: 'serving' }
  /** Old to new: I accept nothing any more, and my ports are free. */
  | { readonly type: 'released' }
  /** A relay to go on with, with the descriptor of the socket that it accepted. What both ends have not sent yet and `relay-end` follow. */
  | { readonly type: 'relay'; readonly story: RelayStory; readonly results: readonly OpenResult[]; readonly remote: HostPort }
  /** Bytes on their way to the one side, in base64. */
  | { readonly type: 'relay-bytes'; readonly side: 'downstream' | 'upstream'; readonly data: string }
  /** That was the relay, with the descriptor of the socket that it opened. */
  | { readonly type: 'relay-end'; readonly remote: HostPort }
  /** What was counted since the last time; comes until the old one has drained. */
  | { readonly type: 'counters'; readonly families: readonly FamilyReport[] }
  /** Old to new: I am gone. */
  | { readonly type: 'done' };

type Kind = 'string' | 'number' | 'boolean' | 'object';

const FIELDS: { readonly [T in Message['type']]: Record<string, Kind> } = {
  hello: { version: 'number', build: 'string' },
  refused: { reason: 'string' },
  give: { relays: 'boolean' },
  pod: { uid: 'string', who: 'object', reuse: 'boolean' },
  listener: { set: 'number', port: 'number', address: 'object', transparent: 'boolean' },
  all: { pods: 'number' },
  serving: {},
  released: {},
  relay: { story: 'object', results: 'object', remote: 'object' },
  'relay-bytes': { side: 'string', data: 'string' },
  'relay-end': { remote: 'object' },
  counters: { families: 'object' },
  done: {},
};

/** Messages that a descriptor comes with. */
export const WITH_DESCRIPTOR: ReadonlySet<Message['type']> = new Set(['pod', 'listener', 'relay', 'relay-end']);

export function encode(message: Message): Uint8Array {
  return Buffer.from(JSON.stringify(message));
}

/** Throws `protocol_error`. */
export function decode(data: Uint8Array): Message {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(data).toString());
  } catch (thrown) {
    throw new MeshError('protocol_error', 'takeover: a message is not JSON', { cause: thrown });
  }
  if (!isRecord(value) || typeof value['type'] !== 'string')
    throw new MeshError('protocol_error', 'takeover: a message without a type');
  const fields = Object.entries(FIELDS).find(([type]) => type === value['type'])?.[1];
  if (!fields) throw new MeshError('protocol_error', `takeover: a message of the unknown type ${value['type']}`);
  for (const [name, kind] of Object.entries(fields))
    if (typeof value[name] !== kind || value[name] === null)
      throw new MeshError('protocol_error', `takeover: ${value['type']}.${name} is not of the type ${kind}`);
  return value as unknown as Message;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
