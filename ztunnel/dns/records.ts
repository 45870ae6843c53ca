// The records of a message of another server, as far as a cache needs them: how long they hold, and where that is written.
import { HEADER_SIZE, RCODE, rcodeOf, skipName, TYPE } from './message.ts';

const SOA = 6;
const TRUNCATED = 0x0200;
/** Seconds; a name server may say years. */
const LONGEST = { positive: 300, negative: 30 } as const;

interface RecordPlace {
  readonly type: number;
  /** Where the four bytes of its time to live are. */
  readonly ttlAt: number;
  readonly end: number;
  readonly section: 'answer' | 'authority' | 'additional';
}

/** Seconds for which a reply may be given again; 0 for one that holds for this question only. */
export function lifetimeOf(reply: Buffer): number {
  const rcode = rcodeOf(reply);
  const records = recordsOf(reply);
  if (!records || reply.readUInt16BE(2) & TRUNCATED || (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN)) return 0;
  const ttls = records.map(({ ttlAt }) => reply.readUInt32BE(ttlAt));
  if (rcode === RCODE.NOERROR && records.some(({ section }) => section === 'answer')) return Math.min(LONGEST.positive, ...ttls);
  // How long nothing stays nothing is the last field of the zone's SOA (RFC 2308).
  const soa = records.find(({ type, section }) => type === SOA && section === 'authority');
  return soa ? Math.min(LONGEST.negative, reply.readUInt32BE(soa.end - 4), ...ttls) : 0;
}

/** A reply that is `age` seconds older than when it came. */
export function aged(reply: Buffer, age: number): Buffer {
  const copy = Buffer.from(reply);
  for (const { ttlAt } of recordsOf(copy) ?? []) copy.writeUInt32BE(Math.max(0, copy.readUInt32BE(ttlAt) - age), ttlAt);
  return copy;
}

/** All but OPT, whose bytes mean something else; undefined when the message is malformed. */
function recordsOf(message: Buffer): RecordPlace[] | undefined {
  let at: number | undefined = HEADER_SIZE;
  for (let i = message.readUInt16BE(4); i > 0; i--) {
    at = skipName(message, at);
    if (at === undefined) return undefined;
    at += 4;
  }
  const found: RecordPlace[] = [];
  for (const [section, countAt] of [
    ['answer', 6],
    ['authority', 8],
    ['additional', 10],
  ] as const) {
    for (let i = message.readUInt16BE(countAt); i > 0; i--) {
      const fixed = skipName(message, at);
      if (fixed === undefined || fixed + 10 > message.length) return undefined;
      const type = message.readUInt16BE(fixed);
      at = fixed + 10 + message.readUInt16BE(fixed + 8);
      if (at > message.length || (type === SOA && at - fixed < 14)) return undefined;
      if (type !== TYPE.OPT) found.push({ type, ttlAt: fixed + 4, end: at, section });
    }
  }
  return found;
}
