import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import { DeltaDiscoveryResponseSchema } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { FakeClock } from '#shared/clock.ts';
import { AddressSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import { resourceType } from '#shared/xds/resource-type.ts';
import { readDeltaResponse } from '#shared/xds/response-reader.ts';
import { TypeState } from '#shared/xds/subscription.ts';
import { AdsServer } from './ads-fixture.ts';
import { ADDRESS, addresses, AUTHORIZATION, authorizations, clientOf, workload } from './client-fixture.ts';

t.setTimeout(20_000);

t.test('asks for each type once, in order, with the node, and is synced by the first response', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const { client, metrics } = clientOf(server);
  using _closing = client;
  const { held, type } = addresses();
  const subscription = client.watchAll(type);
  client.watchAll(authorizations());
  client.start();
  const stream = await server.stream(0);
  await stream.request(({ typeUrl }) => typeUrl === AUTHORIZATION);
  t.same(
    stream.requests.map(({ typeUrl }) => typeUrl),
    [ADDRESS, AUTHORIZATION],
  );
  const first = stream.requests[0];
  t.equal(first?.node?.id, 'ztunnel~10.0.0.1~zt.sys~sys.svc.cluster.local');
  t.same(first?.node?.metadata, { NAME: 'zt', NAMESPACE: 'sys', INSTANCE_IPS: '10.0.0.1', NODE_NAME: 'n1' });
  t.same(first?.resourceNamesSubscribe, []);
  t.equal(stream.headers['clusterid'], 'c1');

  stream.send(ADDRESS, 'n-1', [{ name: 'a', version: '1', bytes: workload('a') }]);
  await subscription.synced;
  t.same([...held], [['a', '1']]);
  const ack = await stream.request(({ responseNonce }) => responseNonce === 'n-1');
  t.equal(ack.errorDetail, undefined);
  t.equal(ack.node, undefined, 'the node is not repeated');
  const { body } = await metrics.render();
  t.match(body, `istio_xds_message_total{url="${ADDRESS}"} 1`);

  stream.send(ADDRESS, 'n-2', [], ['a', 'never-seen']);
  await stream.request(({ responseNonce }) => responseNonce === 'n-2');
  t.equal(held.size, 0);
  t.equal(subscription.size, 0);
});

t.test('a bad resource is named in the NACK, the good one applies, and only it is told after a reconnect', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const { client, lines } = clientOf(server);
  using _closing = client;
  const { held, type } = addresses((name) => (name === 'refused' ? 'no such network' : undefined));
  client.watchAll(type);
  client.start();
  const stream = await server.stream(0);
  stream.send(ADDRESS, 'n-1', [
    { name: 'good', version: '7', bytes: workload('good') },
    { name: 'garbled', version: '8', bytes: Uint8Array.of(0xff, 0xff, 0xff) },
    { name: 'refused', version: '9', bytes: workload('refused') },
    { name: 'other', version: '10', bytes: workload('other'), typeUrl: AUTHORIZATION },
    { name: 'empty', version: '11' },
  ]);
  const nack = await stream.request(({ responseNonce }) => responseNonce === 'n-1');
  t.equal(nack.errorDetail?.code, status.INVALID_ARGUMENT);
  for (const part of [/garbled: /u, /refused: no such network/u, /other: the body is a/u, /empty: the resource has no body/u])
    t.match(nack.errorDetail?.message, part);
  t.notMatch(nack.errorDetail?.message, /good/u);
  t.same([...held], [['good', '7']]);
  t.match(lines.join(''), /error\txds\tresource rejected\ttype=\S+ name="garbled"/u);

  stream.end();
  const again = await server.stream(1);
  const initial = await again.request(({ typeUrl }) => typeUrl === ADDRESS);
  t.same(initial.initialResourceVersions, { good: '7' });
  t.ok(initial.node, 'a new stream hears the node again');
});

t.test('a handler that throws rejects its whole batch and the stream lives on', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const { client } = clientOf(server);
  using _closing = client;
  let fail = true;
  const subscription = client.watchAll(
    resourceType(AddressSchema, {
      apply: () => {
        if (fail) throw new Error('out of order');
        return [];
      },
    }),
  );
  client.start();
  const stream = await server.stream(0);
  stream.send(ADDRESS, 'n-1', [{ name: 'a', version: '1', bytes: workload('a') }]);
  const nack = await stream.request(({ responseNonce }) => responseNonce === 'n-1');
  t.equal(nack.errorDetail?.message, 'a: out of order');
  fail = false;
  stream.send(ADDRESS, 'n-2', [{ name: 'a', version: '2', bytes: workload('a') }]);
  t.equal((await stream.request(({ responseNonce }) => responseNonce === 'n-2')).errorDetail, undefined);
  t.equal(subscription.size, 1);
  fail = true;
  stream.send(ADDRESS, 'n-3', [], ['a']);
  const kept = await stream.request(({ responseNonce }) => responseNonce === 'n-3');
  t.equal(kept.errorDetail?.message, 'a: out of order');
  stream.fail(status.UNAVAILABLE);
  const initial = await (await server.stream(1)).request(({ typeUrl }) => typeUrl === ADDRESS);
  t.same(initial.initialResourceVersions, { a: '2' }, 'what could not be removed is held, and the server told so');
});

t.test('named subscriptions say only what changed, once a turn, and everything after a reconnect', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const { client } = clientOf(server);
  using _closing = client;
  const { type } = addresses();
  const subscription = client.watchNamed(type);
  client.watchAll(authorizations());
  client.start();
  const stream = await server.stream(0);
  await stream.request(({ typeUrl }) => typeUrl === AUTHORIZATION);
  t.same(
    stream.requests.map(({ typeUrl }) => typeUrl),
    [AUTHORIZATION],
    'no name, no request',
  );

  subscription.subscribe('a');
  subscription.subscribe('b');
  const first = await stream.request(({ typeUrl }) => typeUrl === ADDRESS);
  t.same(first.resourceNamesSubscribe, ['a', 'b']);
  stream.send(ADDRESS, 'n-1', [{ name: 'a', version: '1', bytes: workload('a') }]);
  await stream.request(({ responseNonce }) => responseNonce === 'n-1');

  subscription.setNames(['b', 'c']);
  const change = await stream.request(({ resourceNamesUnsubscribe }) => resourceNamesUnsubscribe.length > 0);
  t.same(change.resourceNamesUnsubscribe, ['a']);
  t.same(change.resourceNamesSubscribe, ['c']);
  stream.send(ADDRESS, 'n-2', [{ name: 'c', version: '3', bytes: workload('c') }]);
  await stream.request(({ responseNonce }) => responseNonce === 'n-2');

  stream.fail(status.UNAVAILABLE);
  const again = await server.stream(1);
  const initial = await again.request(({ typeUrl }) => typeUrl === ADDRESS);
  t.same(initial.resourceNamesSubscribe, ['b', 'c']);
  t.same(initial.initialResourceVersions, { b: '', c: '3' }, 'asked for and never received is told as such');
});

t.test('reconnects to a server that comes back, with the token as it is then', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'culvert-xds-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const authToken = join(folder, 'token');
  await writeFile(authToken, 'first\n');
  const server = new AdsServer();
  await server.listen();
  const { port } = server;
  const { client, metrics } = clientOf(server, { endpoint: { address: server.address, rootCert: '', authToken } });
  using _closing = client;
  client.watchAll(addresses().type);
  client.start();
  t.equal((await server.stream(0)).headers['authorization'], 'Bearer first');
  await writeFile(authToken, 'second');
  await server[Symbol.asyncDispose]();
  await new Promise((resolve) => setTimeout(resolve, 100));

  await using next = new AdsServer();
  await next.listen(undefined, port);
  t.equal((await next.stream(0)).headers['authorization'], 'Bearer second');
  const { body } = await metrics.render();
  t.match(body, /istio_xds_connection_terminations_total\{reason="ConnectionError"\} \d/u);
});

t.test('an unreadable response ends the stream, and the next one works', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const { client, metrics } = clientOf(server);
  using _closing = client;
  const { held, type } = addresses();
  const subscription = client.watchAll(type);
  client.start();
  (await server.stream(0)).sendBytes(Uint8Array.of(0xff, 0xff, 0xff, 0xff));
  const again = await server.stream(1);
  again.send(ADDRESS, 'n', [{ name: 'a', version: '1', bytes: workload('a') }]);
  await subscription.synced;
  t.equal(held.size, 1);
  t.match((await metrics.render()).body, 'istio_xds_connection_terminations_total{reason="Error"} 1');
});

t.test('responses are counted by type with their bytes, ends of streams by what ended them', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const { client, metrics } = clientOf(server);
  using _closing = client;
  client.watchAll(addresses().type);
  client.watchAll(authorizations());
  client.start();
  const bodies = [['n1', ['a', 'b']] as const, ['n2', ['c']] as const].map(([nonce, names]) => {
    const resources = names.map((name) => ({ name, version: '1', resource: { typeUrl: ADDRESS, value: workload(name) } }));
    const response = create(DeltaDiscoveryResponseSchema, { typeUrl: ADDRESS, nonce, resources });
    return toBinary(DeltaDiscoveryResponseSchema, response);
  });
  const first = await server.stream(0);
  for (const bytes of bodies) first.sendBytes(bytes);
  await first.request(({ responseNonce }) => responseNonce === 'n2');
  const value = async (name: string): Promise<string | undefined> =>
    (await metrics.render()).body
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.slice(name.length + 1);
  const bytes = bodies.reduce((sum, { length }) => sum + length, 0);
  t.equal(await value(`istio_xds_message_total{url="${ADDRESS}"}`), '2');
  t.equal(await value(`istio_xds_message_bytes_total{url="${ADDRESS}"}`), String(bytes));
  t.equal(await value(`istio_xds_message_bytes_total{url="${AUTHORIZATION}"}`), undefined, 'nothing came of the other');

  const ended = (reason: string) => value(`istio_xds_connection_terminations_total{reason="${reason}"}`);
  first.end();
  const second = await server.stream(1);
  t.equal(await ended('Complete'), '1', 'a server that has no more to say');
  for (const [index, code, reason, count] of [
    [2, status.UNAVAILABLE, 'Reconnect', '1'],
    [3, status.CANCELLED, 'Reconnect', '2'],
    [4, status.INVALID_ARGUMENT, 'Error', '1'],
  ] as const) {
    const stream = index === 2 ? second : await server.stream(index - 1);
    stream.send(ADDRESS, `n${index}`, []);
    await stream.request(({ responseNonce }) => responseNonce === `n${index}`);
    stream.fail(code);
    await server.stream(index);
    t.equal(await ended(reason), count, status[code]);
  }
  (await server.stream(4)).fail(status.UNAVAILABLE);
  await server.stream(5);
  t.equal(await ended('ConnectionError'), '1', 'before the first response it is no server that comes back');
});

t.test('a response larger than the 4 MiB that gRPC takes by default', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const { client } = clientOf(server);
  using _closing = client;
  const { held, type } = addresses();
  const subscription = client.watchAll(type);
  client.start();
  const names = Array.from({ length: 6 }, (_, index) => String(index).repeat(2 ** 20));
  const stream = await server.stream(0);
  stream.send(
    ADDRESS,
    'large',
    names.map((name, index) => ({ name: `n${index}`, version: '1', bytes: workload(name) })),
  );
  await Promise.race([subscription.synced, server.stream(1).then(() => t.fail('it was refused, and another stream begun'))]);
  t.equal(held.size, 6);
});

t.test('a missing token file is named and retried', async (t) => {
  await using server = new AdsServer();
  await server.listen();
  const folder = await mkdtemp(join(tmpdir(), 'culvert-xds-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const authToken = join(folder, 'token');
  const { client, lines } = clientOf(server, { endpoint: { address: server.address, rootCert: '', authToken } });
  using _closing = client;
  client.watchAll(addresses().type);
  client.start();
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.match(lines.join(''), `cannot read the token ${authToken}`);
  await writeFile(authToken, 'now');
  t.equal((await server.stream(0)).headers['authorization'], 'Bearer now');
});

t.test('a response that ends in the middle of a resource counts for nothing', async (t) => {
  const whole = toBinary(
    DeltaDiscoveryResponseSchema,
    create(DeltaDiscoveryResponseSchema, {
      typeUrl: 'x',
      resources: ['a', 'b'].map((name) => ({ name, version: '1', resource: { typeUrl: 'x', value: new Uint8Array([1]) } })),
    }),
  );
  const applied: string[] = [];
  let discarded = 0;
  const state = new TypeState<string>(
    {
      typeUrl: 'x',
      decode: (_, name) => name,
      apply: ({ set }) => (applied.push(...set.map(({ name }) => name)), []),
      discard: () => void (discarded += 1),
    },
    'wildcard',
    [],
    () => undefined,
  );
  // Of one octet, which begins a field and does not end it.
  const broken = Uint8Array.from([...whole, 0x12, 1, 0x0a]);
  t.throws(() => state.accept(readDeltaResponse(broken).resources, []));
  t.same([applied, discarded], [[], 1]);
  t.equal(state.accept(readDeltaResponse(whole).resources, []).accepted, 2);
  t.same(applied, ['a', 'b']);
});

t.test('a server that accepts connections and never speaks is given up, and dialled again', async (t) => {
  const silent = createServer();
  const sockets: Socket[] = [];
  const again = Promise.withResolvers<void>();
  silent.on('connection', (socket) => sockets.push(socket.resume()) === 2 && again.resolve());
  await new Promise<void>((listening) => silent.listen(0, '127.0.0.1', listening));
  const { port } = silent.address() as AddressInfo;
  const clock = new FakeClock();
  const { client, lines, metrics } = clientOf({ address: `http://127.0.0.1:${port}` } as AdsServer, { clock });
  using _closing = client;
  client.watchAll(addresses().type);
  client.start();
  await once(silent, 'connection');
  // The timer is set in a later turn than the connection is accepted.
  const time = setInterval(() => clock.advance(10_000), 10);
  await again.promise;
  clearInterval(time);
  t.match(lines[0], /xDS connection failed.*did not become a connection/u);
  t.match((await metrics.render()).body, 'istio_xds_connection_terminations_total{reason="ConnectionError"} 1');
  t.ok(sockets[0]?.readableEnded, 'the first one is closed');
  client.close();
  silent.close();
  await once(silent, 'close');
});
