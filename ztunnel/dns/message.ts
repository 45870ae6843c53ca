// DNS messages on the wire (RFC 1035, EDNS of RFC 6891), as far as a proxy needs them: one question is read, its bytes are kept to be
// echoed as they came, and answers of addresses are written with compressed names. What cannot be read never throws.
import { ipToBytes } from '#shared/address.ts';

export const TYPE = { A: 1, CNAME: 5, AAAA: 28, OPT: 41, AXFR: 252 } as const;
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const;
export const CLASS_IN = 1;

export const HEADER_SIZE = 12;
/** What a client without EDNS can take over UDP. */
const MIN_PAYLOAD = 512;
/** What fits into one message over TCP, and more than fits into one datagram. */
export const MAX_MESSAGE = 65_535;
/** Seconds that a client may keep an answer of ours. */
const TTL = 30;

const FLAG = { response: 0x8000, opcode: 0x7800, authoritative: 0x0400, truncated: 0x0200, recursionDesired: 0x0100 } as const;
const RECURSION_AVAILABLE = 0x0080;
const CHECKING_DISABLED = 0x0010;
/** Of the flags of OPT: the client understands DNSSEC. */
const DNSSEC_OK = 0x8000;
const MAX_NAME = 255;
const OPT_SIZE = 11;
/** A pointer to the name of the question, which every message has at the same place. */
const QUESTION_NAME = 0xc000 | HEADER_SIZE;

export interface Query {
  readonly id: number;
  /** Recursion desired, checking disabled: what a response repeats. */
  readonly flags: number;
  /** Lower-case labels joined by dots, without the closing one; '' is the root. A dot within a label is written `\.`. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** The question's bytes. */
  readonly question: Buffer;
  readonly edns: Edns | undefined;
}

export interface Edns {
  /** Bytes that the client takes over UDP. */
  readonly payload: number;
  readonly dnssecOk: boolean;
  readonly version: number;
}

/** `ignored` is what must not be answered: anything that may itself be an answer, or has no header. */
export type Reading =
  | { readonly kind: 'query'; readonly query: Query }
  | { readonly kind: 'refused'; readonly rcode: number }
  | { readonly kind: 'ignored' };

const IGNORED: Reading = { kind: 'ignored' };
const MALFORMED: Reading = { kind: 'refused', rcode: RCODE.FORMERR };

export function readQuery(message: Buffer): Reading {
  if (message.length < HEADER_SIZE) return IGNORED;
  const flags = message.readUInt16BE(2);
  if (flags & FLAG.response) return IGNORED;
  if (flags & FLAG.opcode) return { kind: 'refused', rcode: RCODE.NOTIMP };
  const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) => message.readUInt16BE(at));
  if (questions !== 1 || answers !== 0 || authorities !== 0) return MALFORMED;
  const name = readName(message, HEADER_SIZE);
  if (!name || name.end + 4 > message.length) return MALFORMED;
  const end = name.end + 4;
  const edns = readEdns(message, end, additionals ?? 0);
  if (edns === 'malformed') return MALFORMED;
  return {
    kind: 'query',
    query: {
      id: message.readUInt16BE(0),
      flags: flags & (FLAG.recursionDesired | CHECKING_DISABLED),
      name: name.text,
      type: message.readUInt16BE(name.end),
      class: message.readUInt16BE(name.end + 2),
      question: Buffer.from(message.subarray(HEADER_SIZE, end)),
      edns,
    },
  };
}

/** Bytes that the client takes over UDP. */
export function payloadOf({ edns }: Query): number {
  return Math.max(MIN_PAYLOAD, edns?.payload ?? 0);
}

export interface Response {
  readonly rcode: number;
  /** The name that the asked one stands for. */
  readonly alias?: string;
  /** Of the asked family. */
  readonly addresses?: readonly string[];
}

/** The response in at most `limit` bytes: addresses that do not fit are left out, and it says so. Authoritative when it is no error. */
export function writeResponse(query: Query, { rcode, alias, addresses = [] }: Response, limit: number): Buffer {
  const head = Buffer.alloc(HEADER_SIZE);
  const parts: Buffer[] = [head, query.question];
  let size = HEADER_SIZE + query.question.length + (query.edns ? OPT_SIZE : 0);
  let count = 0;
  let truncated = false;
  const add = (owner: number, type: number, data: Uint8Array): void => {
    const record = Buffer.alloc(HEADER_SIZE + data.length);
    truncated ||= size + record.length > limit;
    if (truncated) return;
    record.writeUInt16BE(owner, 0);
    record.writeUInt16BE(type, 2);
    record.writeUInt16BE(CLASS_IN, 4);
    record.writeUInt32BE(TTL, 6);
    record.writeUInt16BE(data.length, 10);
    record.set(data, HEADER_SIZE);
    parts.push(record);
    size += record.length;
    count += 1;
  };
  let owner = QUESTION_NAME;
  if (alias !== undefined) {
    add(QUESTION_NAME, TYPE.CNAME, encodeName(alias));
    // The alias's name is the data of the record right behind the question.
    owner = 0xc000 | (HEADER_SIZE + query.question.length + HEADER_SIZE);
  }
  for (const address of addresses) {
    const bytes = ipToBytes(address);
    if (bytes) add(owner, bytes.length === 4 ? TYPE.A : TYPE.AAAA, bytes);
  }
  if (query.edns) parts.push(optRecord(query, rcode));
  const authoritative = rcode === RCODE.NOERROR ? FLAG.authoritative : 0;
  const flags = FLAG.response | authoritative | (truncated ? FLAG.truncated : 0) | query.flags | RECURSION_AVAILABLE;
  head.writeUInt16BE(query.id, 0);
  head.writeUInt16BE(flags | (rcode & 0xf), 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(count, 6);
  head.writeUInt16BE(query.edns ? 1 : 0, 10);
  return Buffer.concat(parts);
}

/** What tells the sender of a message that it could not be read: a header alone. */
export function writeRefusal(message: Buffer, rcode: number): Buffer {
  const reply = Buffer.alloc(HEADER_SIZE);
  message.copy(reply, 0, 0, 2);
  reply.writeUInt16BE(FLAG.response | (message.readUInt16BE(2) & (FLAG.opcode | FLAG.recursionDesired)) | rcode, 2);
  return reply;
}

/** Whether a message answers a question that was sent under `id`. A server that could not read it may leave the question out. */
export function isReply(message: Buffer, id: number, { question }: Query): boolean {
  if (message.length < HEADER_SIZE || message.readUInt16BE(0) !== id || !(message.readUInt16BE(2) & FLAG.response)) return false;
  if (message.readUInt16BE(4) === 0) return rcodeOf(message) !== RCODE.NOERROR;
  const echoed = message.subarray(HEADER_SIZE, HEADER_SIZE + question.length);
  return echoed.equals(question) || echoed.toString('latin1').toLowerCase() === question.toString('latin1').toLowerCase();
}

export function rcodeOf(message: Buffer): number {
  return message.readUInt16BE(2) & 0xf;
}

export function answerCount(message: Buffer): number {
  return message.readUInt16BE(6);
}

/** A reply of another server as the client gets it: under its id, with no authority of ours, and no larger than it can take. */
export function relayed(reply: Buffer, query: Query, limit: number): Buffer {
  if (reply.length > limit) {
    const cut = writeResponse(query, { rcode: rcodeOf(reply) }, limit);
    cut.writeUInt16BE((cut.readUInt16BE(2) & ~FLAG.authoritative) | FLAG.truncated, 2);
    return cut;
  }
  const copy = Buffer.from(reply);
  copy.writeUInt16BE(query.id, 0);
  copy.writeUInt16BE(copy.readUInt16BE(2) & ~FLAG.authoritative, 2);
  return copy;
}

/** A name without compression, which no question has. */
function readName(message: Buffer, start: number): { text: string; end: number } | undefined {
  const labels: string[] = [];
  let at = start;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63 || at + length + 1 - start > MAX_NAME) return undefined;
    at += 1;
    if (length === 0) return { text: labels.join('.').toLowerCase(), end: at };
    if (at + length > message.length) return undefined;
    labels.push(message.toString('latin1', at, at + length).replaceAll('.', '\\.'));
    at += length;
  }
}

function encodeName(name: string): Buffer {
  const labels = name.split('.').map((label) => {
    const bytes = Buffer.from(label, 'latin1');
    return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  });
  return Buffer.concat([...labels, Buffer.alloc(1)]);
}

/** Finds OPT among the additional records; undefined when there is none. */
function readEdns(message: Buffer, start: number, count: number): Edns | undefined | 'malformed' {
  let found: Edns | undefined;
  let at = start;
  for (let i = 0; i < count; i++) {
    const fixed = skipName(message, at);
    if (fixed === undefined || fixed + 10 > message.length) return 'malformed';
    if (message.readUInt16BE(fixed) === TYPE.OPT) {
      if (found || message[at] !== 0) return 'malformed';
      found = {
        payload: message.readUInt16BE(fixed + 2),
        version: message.readUInt8(fixed + 5),
        dnssecOk: (message.readUInt16BE(fixed + 6) & DNSSEC_OK) !== 0,
      };
    }
    at = fixed + 10 + message.readUInt16BE(fixed + 8);
    if (at > message.length) return 'malformed';
  }
  return found;
}

/** Where the name at `at` ends: behind its root label, or behind a pointer. */
export function skipName(message: Buffer, start: number): number | undefined {
  let at = start;
  for (;;) {
    const length = message[at];
    if (length === undefined) return undefined;
    if (length >= 0xc0) return at + 2;
    if (length > 63) return undefined;
    at += 1 + length;
    if (length === 0) return at;
  }
}

function optRecord(query: Query, rcode: number): Buffer {
  const record = Buffer.alloc(OPT_SIZE);
  record.writeUInt16BE(TYPE.OPT, 1);
  record.writeUInt16BE(payloadOf(query), 3);
  record.writeUInt8(rcode >> 4, 5);
  record.writeUInt16BE(query.edns?.dnssecOk === true ? DNSSEC_OK : 0, 7);
  return record;
}
