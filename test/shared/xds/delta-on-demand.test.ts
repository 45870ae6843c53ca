// Subscriptions by name, as istiod understands them.
import t from 'tap';
import type { DeltaDiscoveryRequest } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { AdsServer } from './ads-fixture.ts';
import { ADDRESS, addresses, clientOf, workload } from './client-fixture.ts';

t.setTimeout(20_000);

t.test('a subscription by demand is a wildcard taken back', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const { client } = clientOf(server);
  using _closing = client;
  client.watchNamed(addresses().type, [], 'on-demand');
  client.start();
  const initial = await (await server.stream(0)).request(() => true);
  t.same(initial.resourceNamesSubscribe, ['*']);
  t.same(initial.resourceNamesUnsubscribe, ['*']);
});

/** What a request says of names: taken back, and asked for. */
const names = ({ resourceNamesUnsubscribe, resourceNamesSubscribe }: DeltaDiscoveryRequest) => [
  resourceNamesUnsubscribe,
  resourceNamesSubscribe.toSorted(),
];

t.test('on demand: a name that is asked for again is taken back first, as istiod answers for no name twice', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const { client } = clientOf(server);
  using _closing = client;
  const subscription = client.watchNamed(addresses().type, [], 'on-demand');
  client.start();
  const stream = await server.stream(0);
  subscription.ask('/192.0.2.1');
  await stream.request(({ resourceNamesSubscribe: [name] }) => name === '/192.0.2.1');
  subscription.ask('/192.0.2.1', '/192.0.2.2');
  await stream.request(({ resourceNamesSubscribe }) => resourceNamesSubscribe.includes('/192.0.2.2'));
  subscription.unsubscribe('/192.0.2.2');
  await stream.request(({ resourceNamesUnsubscribe: [name] }) => name === '/192.0.2.2');
  const nothing = ['culvert/nothing'];
  t.same(
    stream.requests.slice(-3).map(names),
    [
      [['/192.0.2.1'], nothing],
      [[], ['/192.0.2.1', '/192.0.2.2']],
      [['/192.0.2.2'], nothing],
    ],
    'and none is taken back without asking for something, upon which istiod removes everything',
  );
});

t.test('on demand: what came unasked is taken back before it is asked for, as istiod counts it as asked for', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const { type } = addresses();
  const { client } = clientOf(server);
  using _closing = client;
  const subscription = client.watchNamed(type, [], 'on-demand');
  client.start();
  const stream = await server.stream(0);
  await stream.request(() => true);
  stream.send(ADDRESS, '1', [{ name: 'shop/web', version: '1', bytes: workload('shop/web') }]);
  stream.send(ADDRESS, '2', [], ['shop/web']);
  await stream.request(({ responseNonce }) => responseNonce === '2');
  subscription.ask('shop/web');
  await stream.request(({ resourceNamesSubscribe: [name] }) => name === 'shop/web');
  t.same(stream.requests.slice(-2).map(names), [
    [['shop/web'], ['culvert/nothing']],
    [[], ['shop/web']],
  ]);
});
