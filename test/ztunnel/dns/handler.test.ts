// The handler between codec, mesh and name servers, with a name server that answers from a function.
import type { Packet, Question } from 'dns-packet';
import { decode, encode } from 'dns-packet';
import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { DnsMetrics } from '../../../ztunnel/dns/dns-metrics.ts';
import type { HandlerDeps } from '../../../ztunnel/dns/handler.ts';
import { DnsHandler } from '../../../ztunnel/dns/handler.ts';
import { parseResolvConf } from '../../../ztunnel/dns/resolv-conf.ts';
import type { Service } from '../../../ztunnel/state/model.ts';
import { aService, aStore, aWorkload, changeOf } from '../../fixtures/mesh.ts';
import { addresses, queryOf } from '../../harness/dns.ts';

const web = aWorkload('web');

function handlerOf(deps: Partial<HandlerDeps>, reply: Partial<Packet> = { flags: 3 }) {
  const asked: string[] = [];
  const lines: string[] = [];
  const handler = new DnsHandler({
    state: aStore(),
    options: { clusterDomain: 'cluster.local', ipv6: true, preferredNamespace: undefined },
    client: () => web,
    settings: async () => parseResolvConf('nameserver 10.0.0.53\nsearch shop.svc.cluster.local corp.test\n'),
    forwarder: {
      ask: async (transport, message, query) => {
        asked.push(`${transport} ${query.name}`);
        return encode({ type: 'response', questions: decode(message).questions ?? [], ...reply });
      },
    },
    metrics: new DnsMetrics(new Metrics()),
    clock: new FakeClock(),
    log: new Logging({ sink: { write: (line: string) => void lines.push(line) } }).scope('dns'),
    random: () => 0.999,
    ...deps,
  });
  const ask = async (question: Question): Promise<Packet> => {
    const answer = await handler.answer(encode(queryOf(question)), 'udp');
    if (!answer) throw new Error('no answer');
    return decode(answer);
  };
  return { handler, ask, asked, lines };
}

t.test('addresses come in an order of chance', async (t) => {
  const state = aStore(aService('api', { vips: ['10.0.0.1', '10.0.0.2', '10.0.0.3'] }));
  const order = async (random: number) =>
    (await handlerOf({ state, random: () => random }).ask({ name: 'api', type: 'A' })).answers?.map(({ data }) => data);
  t.same(await order(0), ['10.0.0.1', '10.0.0.2', '10.0.0.3']);
  t.same(await order(0.999), ['10.0.0.3', '10.0.0.2', '10.0.0.1']);
});

t.test('what is not held is fetched, where state comes on demand', async (t) => {
  const store = aStore();
  const known: Record<string, Service> = {
    'www.example.com': aService('ext', { hostname: 'www.example.com', vips: ['240.0.0.1'] }),
  };
  const wanted: string[] = [];
  const resolve = async (hostname: string): Promise<void> => {
    wanted.push(hostname);
    const service = known[hostname];
    if (service) store.apply([changeOf(service)]);
  };
  const state = { services: store.services, workloads: store.workloads, resolve };
  const { ask, asked } = handlerOf({ state });
  t.same(addresses(await ask({ name: 'www.example.com.corp.test', type: 'A' })), ['240.0.0.1']);
  t.equal(wanted[0], 'www.example.com.corp.test');
  t.ok(wanted.includes('www.example.com'));
  t.same(asked, []);
  const before = wanted.length;
  await ask({ name: 'www.example.com', type: 'A' });
  t.equal(wanted.length, before, 'what is held is not');
  await ask({ name: 'nobody.test', type: 'A' });
  t.same(asked, ['udp nobody.test']);
});

t.test('a name of the mesh exists, whatever the name servers say of its other types', async (t) => {
  const state = aStore(aService('ext', { hostname: 'only.mesh.test', vips: ['240.0.0.1'] }));
  const { ask } = handlerOf({ state });
  t.match(await ask({ name: 'only.mesh.test', type: 'HTTPS' }), { rcode: 'NOERROR', answers: [] });
  t.match(await ask({ name: 'other.mesh.test', type: 'HTTPS' }), { rcode: 'NXDOMAIN' });
  const text = handlerOf({ state }, { answers: [{ name: 'only.mesh.test', type: 'A', ttl: 1, data: '1.2.3.4' }] });
  t.equal((await text.ask({ name: 'only.mesh.test', type: 'TXT' })).answers?.length, 1, 'what they know is passed on');
});

t.test('a fault within is SERVFAIL and a line', async (t) => {
  const { ask, lines } = handlerOf({
    client: () => {
      throw new Error('out of order');
    },
  });
  t.match(await ask({ name: 'api', type: 'A' }), { rcode: 'SERVFAIL', id: 4711 });
  t.match(lines.join(''), /a DNS query failed.*out of order/u);
});

t.test('later versions of EDNS are told which one is spoken', async (t) => {
  const query = encode(queryOf({ name: 'api', type: 'A' }, { payload: 1232 }));
  query[query.length - 5] = 1;
  const { handler, asked } = handlerOf({});
  const reply = decode((await handler.answer(query, 'udp')) ?? Buffer.alloc(0));
  t.match(reply.additionals, [{ type: 'OPT', extendedRcode: 1, ednsVersion: 0 }]);
  t.same(asked, []);
});
