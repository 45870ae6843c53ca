// CRL_PATH: who is revoked gets no tunnel, and the tunnels that are open when the file changes end, in both directions; the same for what
// is joined within the node.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { aService, aWorkload } from '../fixtures/mesh.ts';
import { revoking } from '../harness/crl.ts';
import { certificatesOf, eventually, MeshLab } from '../harness/mesh-lab.ts';
import { createTestCa } from '../harness/test-ca.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'], services: { cart: { 80: 8080 } } });

async function setUp(t: Test, follower: 'node-1' | 'node-2', ca = createTestCa()) {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-crl-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'crl.pem');
  writeFileSync(file, '');
  const certificates = certificatesOf(ca);
  const lab = new MeshLab(t);
  const start = (name: 'node-1' | 'node-2') => lab.node(name, name === follower ? { CRL_PATH: file } : {}, certificates);
  const [one, two] = [await start('node-1'), await start('node-2')];
  await lab.apply(web, cart, aService('cart'));
  const [client, server] = [await lab.captured(web), await lab.captured(cart)];
  await server.serve((socket) => socket.on('data', (chunk) => socket.write(chunk)), 8080);
  const revoke = async (identity: typeof web.identity): Promise<void> =>
    writeFileSync(file, revoking(ca, (await certificates.get(identity)).chain));
  const publish = (list: Uint8Array): void => writeFileSync(file, list);
  return { one, two, client, revoke, publish };
}

async function echoes(socket: Socket): Promise<void> {
  socket.write('hi');
  await once(socket, 'data');
}

async function closed(socket: Socket): Promise<void> {
  socket.on('error', () => undefined);
  socket.resume();
  await eventually('the end of the connection', () => socket.closed || undefined);
}

const CUT = { error: 'connection closed: peer certificate revoked by CRL', level: 'error' };

t.test('a client that is revoked: its tunnel is cut, and it gets no other', async (t) => {
  const { two, client, revoke } = await setUp(t, 'node-2');
  const open = await client.connect({ ip: '10.1.0.3', port: 8080 });
  await echoes(open);
  await revoke(web.identity);
  await closed(open);
  await two.line({ ...CUT, direction: 'inbound', 'src.identity': web.identity });
  t.equal(await two.metric('istio_crl_policy_rejections_total', 'reporter="destination"'), 1);
  t.equal(await two.metric('istio_tcp_connections_failed_total', 'response_flags="CERT_REVOKED"'), 1);
  await closed(client.dial({ ip: '10.1.0.3', port: 8080 }));
  await eventually('the refusal', async () =>
    (await two.metric('istio_crl_policy_rejections_total', 'reporter="destination"')) === 2 ? true : undefined,
  );
});

t.test('a server that is revoked: the tunnels to it are cut, and none is opened', async (t) => {
  const { one, client, revoke } = await setUp(t, 'node-1');
  const open = await client.connect({ ip: '10.1.0.3', port: 8080 });
  await echoes(open);
  await revoke(cart.identity);
  await closed(open);
  await one.line({ ...CUT, direction: 'outbound', 'dst.identity': cart.identity });
  t.equal(await one.metric('istio_crl_policy_rejections_total', 'reporter="source"'), 1);
  await closed(client.dial({ ip: '10.1.0.3', port: 8080 }));
  await eventually('the refusal', async () =>
    (await one.metric('istio_tcp_connections_failed_total', 'response_flags="CERT_REVOKED"')) === 2 ? true : undefined,
  );
  t.equal(await one.metric('istio_crl_policy_rejections_total', 'reporter="source"'), 2);
});

t.test(
  'within a node: relays of a revoked end are cut, those of others are not, and none is opened until it is good again',
  async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'culvert-crl-'));
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const file = join(dir, 'crl.pem');
    writeFileSync(file, '');
    const ca = createTestCa();
    const certificates = certificatesOf(ca);
    const lab = new MeshLab(t);
    const node = await lab.node('node-1', { CRL_PATH: file }, certificates);
    const near = aWorkload('near', { node: 'node-1', ips: ['10.1.0.2'] });
    const other = aWorkload('other', { node: 'node-1', ips: ['10.1.0.4'] });
    await lab.apply(web, near, other);
    const [client, server, bystander] = [await lab.captured(web), await lab.captured(near), await lab.captured(other)];
    await server.serve((socket) => socket.on('data', (chunk) => socket.write(chunk)), 8080);
    const to = { ip: '10.1.0.2', port: 8080 };
    const revoke = async (identity: typeof web.identity): Promise<void> =>
      writeFileSync(file, revoking(ca, (await certificates.get(identity)).chain));
    const rejected = (reporter: string) => node.metric('istio_crl_policy_rejections_total', `reporter="${reporter}"`);

    const unconcerned = await bystander.connect(to);
    let open = await client.connect(to);
    await Promise.all([echoes(open), echoes(unconcerned)]);
    await revoke(web.identity);
    await closed(open);
    for (const direction of ['inbound', 'outbound']) await node.line({ ...CUT, direction, 'src.workload': 'web' });
    t.equal(await rejected('destination'), 1);
    t.equal(await node.metric('istio_tcp_connections_failed_total', 'response_flags="CERT_REVOKED"'), 2, 'both ends tell it');
    await closed(client.dial(to));
    await eventually('the refusal', async () => ((await rejected('destination')) === 2 ? true : undefined));
    await echoes(unconcerned);

    writeFileSync(file, '');
    open = await eventually('a connection that is good again', async () => {
      const again = client.dial(to);
      const answer = new Promise<Socket | undefined>((resolve) => {
        again.once('data', () => resolve(again));
        again.once('close', () => resolve(undefined)).on('error', () => undefined);
      });
      again.write('hi');
      return await answer;
    });

    await revoke(near.identity);
    await Promise.all([closed(open), closed(unconcerned)]);
    t.equal(await rejected('source'), 2, 'each client was told of its server');
    await closed(client.dial(to));
    await eventually('the refusal', async () => ((await rejected('source')) === 3 ? true : undefined));
  },
);

for (const [follower, direction, reporter] of [
  ['node-1', 'outbound', 'source'],
  ['node-2', 'inbound', 'destination'],
] as const)
  t.test(`an issuer between leaf and root that is revoked: ${direction} tunnels are cut, and none is opened`, async (t) => {
    const root = createTestCa();
    const issuer = createTestCa('an authority below', root);
    const { one, two, client, publish } = await setUp(t, follower, issuer);
    const node = follower === 'node-1' ? one : two;
    const open = await client.connect({ ip: '10.1.0.3', port: 8080 });
    await echoes(open);
    const bystander = createTestCa('another one below', root);
    publish(revoking(root, bystander.certificate));
    await sleep(3000);
    await echoes(open);
    t.notOk(open.closed, 'a list without it changes nothing');
    publish(revoking(root, issuer.certificate));
    await closed(open);
    await node.line({ ...CUT, direction });
    t.equal(await node.metric('istio_crl_policy_rejections_total', `reporter="${reporter}"`), 1);
    await closed(client.dial({ ip: '10.1.0.3', port: 8080 }));
    await eventually('the refusal', async () =>
      (await node.metric('istio_crl_policy_rejections_total', `reporter="${reporter}"`)) === 2 ? true : undefined,
    );
  });
