// The control plane is not there: at the start, and later. What is known goes on being served, what changed meanwhile arrives.
import { create } from '@bufbuild/protobuf';
import type { Socket } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { Action, AuthorizationSchema, Scope } from '#shared/gen/istio/security/authorization_pb.ts';
import { aWorkload } from '../../fixtures/mesh.ts';
import { TestControlPlane } from '../../harness/control-plane.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { eventually, MeshLab } from '../../harness/mesh-lab.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const denyAll = create(AuthorizationSchema, {
  name: 'deny',
  namespace: 'shop',
  scope: Scope.NAMESPACE,
  action: Action.DENY,
  groups: [{ rules: [{ matches: [{ destinationPorts: [9000] }] }] }],
});

function setUp(t: Test) {
  const lab = new MeshLab(t);
  const plane = new TestControlPlane(lab.ca);
  t.teardown(() => plane.stop());
  for (const workload of [web, api, cart]) plane.setWorkload(workload);
  /** Starts the ztunnel of a node; its pods are served only once the state has come. */
  const node = (name: string, env: Record<string, string> = {}) =>
    lab.node(name, { XDS_ADDRESS: plane.address, CA_ADDRESS: plane.address, ...env }, 'ca');
  return { lab, plane, node };
}

const echo = (socket: Socket): void => void socket.pipe(socket);

async function echoes(end: Endpoint, text: string): Promise<void> {
  const before = end.bytes;
  end.socket.write(text);
  await end.untilBytes(before + text.length);
}

t.test('gone at the start: not ready, no pod is touched, and served soon after it comes', async (t) => {
  const { lab, plane, node } = setUp(t);
  // Only its port is needed.
  await plane.start();
  plane.stop();
  const starting = Promise.all([node('node-1'), node('node-2')]);
  let started = false;
  void starting.then(() => (started = true));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  t.notOk(started, 'the agent is not asked for pods that could not be served');
  await plane.start();
  const [near] = await starting;
  await eventually('readiness', () => near.app.readiness.ready || undefined);
  const [client, server] = [await lab.captured(web), await lab.captured(cart)];
  const port = await server.serve(echo);
  await echoes(await Endpoint.open(client, { ip: server.ip, port }), 'hello');
  t.ok((await near.metric('istio_xds_connection_terminations_total', 'reason="ConnectionError"')) >= 1);
});

t.test('gone later: old and new connections and new pods are served, and the changes of the meantime come', async (t) => {
  const { lab, plane, node } = setUp(t);
  await plane.start();
  const [near, far] = [await node('node-1'), await node('node-2')];
  const [client, server] = [await lab.captured(web), await lab.captured(cart)];
  const [port, forbidden] = [await server.serve(echo), await server.serve(echo, 9000)];
  const connect = (from = client, to = port) => Endpoint.open(from, { ip: server.ip, port: to });
  const [old, doomed] = [await connect(), await connect(client, forbidden)];
  await Promise.all([echoes(old, 'one'), echoes(doomed, 'one')]);
  // The certificate of the pod that comes later is asked for as soon as its node knows of it.
  await eventually('the certificates', () => (plane.issued >= 3 ? true : undefined));

  plane.stop();
  await eventually('the loss', async () =>
    (await near.metric('istio_xds_connection_terminations_total')) >= 1 ? true : undefined,
  );
  await echoes(old, 'two');
  await echoes(await connect(), 'three');
  t.ok(near.app.readiness.ready, 'it is as ready as before');
  await echoes(await connect(await lab.captured(api)), 'four');

  plane.setPolicy('shop/deny', denyAll);
  await plane.start();
  await doomed.until('closed');
  t.match(await far.line({ direction: 'inbound', level: 'error' }), { error: /policy/u });
  await echoes(old, 'five');
  plane.stop();
  await eventually('the second loss', async () =>
    (await far.metric('istio_xds_connection_terminations_total')) >= 2 ? true : undefined,
  );
  plane.removePolicy('shop/deny');
  await plane.start();
  await eventually('the removal', async () => {
    const end = await connect(client, forbidden);
    end.socket.write('x');
    return (await end.gets(1)) || undefined;
  });
});
