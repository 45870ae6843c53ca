// The codec: what is read, what is refused, what is written, and that no bytes make it throw.
import { decode, encode } from 'dns-packet';
import fc from 'fast-check';
import t from 'tap';
import type { Query } from '../../../ztunnel/dns/message.ts';
import { isReply, payloadOf, RCODE, readQuery, relayed, writeRefusal, writeResponse } from '../../../ztunnel/dns/message.ts';
import { aged, lifetimeOf } from '../../../ztunnel/dns/records.ts';
import { addresses, queryOf } from '../../harness/dns.ts';

function aQuery(name: string, options: { payload?: number; type?: string } = {}): Query {
  const { type = 'A', ...rest } = options;
  const reading = readQuery(encode(queryOf({ name, type }, rest)));
  if (reading.kind !== 'query') throw new Error(reading.kind);
  return reading.query;
}

t.test('a question is read', async (t) => {
  const query = aQuery('WWW.Example.com', { payload: 1232, type: 'AAAA' });
  t.match(query, { id: 4711, name: 'www.example.com', type: 28, class: 1, edns: { payload: 1232, version: 0, dnssecOk: false } });
  t.equal(payloadOf(query), 1232);
  t.equal(payloadOf(aQuery('a', { payload: 100 })), 512);
  t.equal(payloadOf(aQuery('a')), 512);
  t.equal(aQuery('.').name, '');
});

t.test('what is no question is refused, or not answered at all', async (t) => {
  const good = encode(queryOf({ name: 'api', type: 'A' }));
  const changed = (at: number, value: number): Buffer => {
    const copy = Buffer.from(good);
    copy.writeUInt16BE(value, at);
    return copy;
  };
  t.match(readQuery(changed(2, 0x8000)), { kind: 'ignored' }, 'a response would be answered by a response for ever');
  t.match(readQuery(good.subarray(0, 11)), { kind: 'ignored' });
  t.match(readQuery(changed(2, 4 << 11)), { kind: 'refused', rcode: RCODE.NOTIMP });
  t.match(readQuery(changed(4, 0)), { kind: 'refused', rcode: RCODE.FORMERR });
  t.match(readQuery(changed(4, 2)), { kind: 'refused', rcode: RCODE.FORMERR });
  t.match(readQuery(changed(6, 1)), { kind: 'refused', rcode: RCODE.FORMERR });
  t.match(readQuery(changed(10, 1)), { kind: 'refused', rcode: RCODE.FORMERR });
  t.match(readQuery(changed(12, 0xc00c)), { kind: 'refused', rcode: RCODE.FORMERR }, 'a name that points at itself');
  for (let length = 12; length < good.length; length++)
    t.match(readQuery(good.subarray(0, length)), { kind: 'refused', rcode: RCODE.FORMERR });
  t.match(decode(writeRefusal(good, RCODE.NOTIMP)), { id: 4711, type: 'response', rcode: 'NOTIMP' });
});

t.test('answers repeat the question as it came, and are authoritative', async (t) => {
  const reply = decode(
    writeResponse(aQuery('API.shop', { payload: 4096 }), { rcode: 0, addresses: ['10.0.0.1', '10.0.0.2'] }, 512),
  );
  t.match(reply, { id: 4711, type: 'response', flag_aa: true, flag_ra: true, flag_rd: true, flag_tc: false, rcode: 'NOERROR' });
  t.match(reply.questions, [{ name: 'API.shop', type: 'A' }]);
  t.match(reply.answers, [
    { name: 'API.shop', type: 'A', ttl: 30, data: '10.0.0.1' },
    { name: 'API.shop', type: 'A', ttl: 30, data: '10.0.0.2' },
  ]);
  t.match(reply.additionals, [{ type: 'OPT', udpPayloadSize: 4096 }]);
});

t.test('an alias comes first, and bears the addresses', async (t) => {
  const query = aQuery('www.example.com.shop.svc.cluster.local', { type: 'AAAA' });
  const reply = decode(writeResponse(query, { rcode: 0, alias: 'www.example.com', addresses: ['fd00::1'] }, 512));
  t.match(reply.answers, [
    { name: 'www.example.com.shop.svc.cluster.local', type: 'CNAME', data: 'www.example.com' },
    { name: 'www.example.com', type: 'AAAA', data: 'fd00::1' },
  ]);
});

t.test('a response fits into what the client takes, and says what it left out', async (t) => {
  const many = Array.from({ length: 200 }, (_, index) => `10.0.0.${index}`);
  for (const limit of [512, 1232, 65_535]) {
    const message = writeResponse(aQuery('api', { payload: limit }), { rcode: 0, addresses: many }, limit);
    t.ok(message.length <= limit);
    const reply = decode(message);
    t.equal(reply.flag_tc, limit < 65_535);
    t.ok(addresses(reply).length > 25);
    t.equal(reply.additionals?.length, 1);
  }
});

t.test('errors', async (t) => {
  t.match(decode(writeResponse(aQuery('api'), { rcode: RCODE.SERVFAIL }, 512)), {
    rcode: 'SERVFAIL',
    flag_aa: false,
    answers: [],
  });
  const badVersion = decode(writeResponse(aQuery('api', { payload: 512 }), { rcode: RCODE.BADVERS }, 512));
  t.match(badVersion.additionals, [{ extendedRcode: 1 }]);
});

t.test('a reply of a name server must be to the question', async (t) => {
  const query = aQuery('Api');
  const reply = (name: string, type: 'query' | 'response' = 'response', id = 7): Buffer =>
    encode({ id, type, questions: [{ name, type: 'A' }] });
  t.ok(isReply(reply('Api'), 7, query));
  t.ok(isReply(reply('api'), 7, query));
  t.notOk(isReply(reply('apj'), 7, query));
  t.notOk(isReply(reply('Api', 'query'), 7, query));
  t.notOk(isReply(reply('Api', 'response', 8), 7, query));
  t.ok(isReply(encode({ id: 7, type: 'response', flags: 1 }), 7, query), 'an error may leave the question out');
  t.notOk(isReply(encode({ id: 7, type: 'response' }), 7, query));
});

t.test('a relayed reply has the id of the client, no authority, and its size', async (t) => {
  const query = aQuery('api');
  const answers = Array.from({ length: 100 }, (_, i) => ({ name: 'api', type: 'A' as const, ttl: 1, data: `10.0.0.${i}` }));
  const reply = encode({ id: 9, type: 'response', flags: 1 << 10, questions: [{ name: 'api', type: 'A' }], answers });
  t.match(decode(relayed(reply, query, 65_535)), { id: 4711, flag_aa: false, flag_tc: false });
  const cut = relayed(reply, query, 512);
  t.ok(cut.length <= 512);
  t.match(decode(cut), { id: 4711, flag_aa: false, flag_tc: true, answers: [] });
});

t.test('no bytes make the codec throw', async () => {
  const query = aQuery('api', { payload: 1232 });
  const good = encode(queryOf({ name: 'www.example.com', type: 'A' }, { payload: 1232 }));
  const mutated = fc
    .tuple(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 8 }), fc.nat(good.length))
    .map(([changes, cut]) => {
      const copy = Buffer.from(good.subarray(0, Math.max(cut, 12)));
      for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
      return copy;
    });
  const anything = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(mutated, anything), (bytes) => {
      const reading = readQuery(bytes);
      if (reading.kind === 'query') {
        const { query: read } = reading;
        const response = writeResponse(read, { rcode: 0, addresses: ['10.0.0.1'] }, payloadOf(read));
        if (response.length > payloadOf(read)) throw new Error('too long');
        if (response.readUInt16BE(0) !== bytes.readUInt16BE(0)) throw new Error('another id');
      } else if (reading.kind === 'refused') writeRefusal(bytes, reading.rcode);
      if (bytes.length < 12) return;
      isReply(bytes, 4711, query);
      relayed(bytes, query, 512);
      lifetimeOf(bytes);
      aged(bytes, 5);
    }),
    { numRuns: 3000 },
  );
});
