// A thousand policies are pushed one by one while there is traffic: no connection that none of them is about suffers, the last state is in
// force at the end, and so is its removal.
import { create } from '@bufbuild/protobuf';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Action, AuthorizationSchema, Scope } from '#shared/gen/istio/security/authorization_pb.ts';
import { aWorkload } from '../../fixtures/mesh.ts';
import { TestControlPlane } from '../../harness/control-plane.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { eventually, MeshLab } from '../../harness/mesh-lab.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const PUSHES = 1000;
const BULK = 4;

/** Denies a service account that nobody is, or a port. */
function aDenial(index: number, ports: readonly number[] = []) {
  const match =
    ports.length > 0
      ? { destinationPorts: [...ports] }
      : { serviceAccounts: [{ namespace: 'shop', serviceAccount: `nobody-${index}` }] };
  const [namespace, scope, action] = ['shop', Scope.NAMESPACE, Action.DENY];
  return create(AuthorizationSchema, {
    name: `p-${index}`,
    namespace,
    scope,
    action,
    groups: [{ rules: [{ matches: [match] }] }],
  });
}

t.test(`${PUSHES} pushes`, async (t) => {
  const lab = new MeshLab(t);
  const plane = new TestControlPlane(lab.ca);
  t.teardown(() => plane.stop());
  for (const workload of [web, cart]) plane.setWorkload(workload);
  await plane.start();
  const env = { XDS_ADDRESS: plane.address, CA_ADDRESS: plane.address, ZTUNNEL_WORKER_THREADS: '1' };
  const [near, far] = [await lab.node('node-1', env, 'ca'), await lab.node('node-2', env, 'ca')];
  const [client, server] = [await lab.captured(web), await lab.captured(cart)];
  const echo = (socket: Socket): void => void socket.pipe(socket);
  const [port, forbidden] = [await server.serve(echo), await server.serve(echo, 9000)];
  const open = (to = port): Promise<Endpoint> => Endpoint.open(client, { ip: server.ip, port: to });
  const bulk = await Promise.all(Array.from({ length: BULK }, () => open()));
  for (const end of bulk) {
    const more = (): unknown => end.socket.writable && setTimeout(() => end.socket.write(Buffer.alloc(4096)), 2);
    end.socket.on('data', more);
    more();
  }
  const doomed = await open(forbidden);
  doomed.socket.write('hello');
  await doomed.untilBytes(5);

  let pushing = true;
  const arrivals = (async (): Promise<number> => {
    let served = 0;
    for (; pushing; served++) {
      const end = await open();
      end.socket.write('hello');
      if (!(await end.gets(5))) t.fail('a connection that no policy is about was refused');
      end.socket.destroy();
      await sleep(5);
    }
    return served;
  })();
  const started = performance.now();
  for (let i = 0; i < PUSHES; i++) {
    plane.setPolicy(`shop/p-${i}`, i === PUSHES - 1 ? aDenial(i, [9000]) : aDenial(i));
    if (i % 10 === 0) await sleep(5);
  }
  await doomed.until('closed');
  t.comment(`${PUSHES} pushes were in force after ${Math.round(performance.now() - started)} ms`);
  t.match(await far.line({ direction: 'inbound', level: 'error' }), { error: /policy/u });
  const denied = async (): Promise<boolean> => {
    const end = await open(forbidden);
    end.socket.write('hello');
    return !(await end.gets(5));
  };
  t.ok(await denied(), 'new ones are refused');
  for (let i = 0; i < PUSHES; i++) plane.removePolicy(`shop/p-${i}`);
  await eventually('the removal', async () => ((await denied()) ? undefined : true));
  pushing = false;
  t.ok((await arrivals) > 5, 'connections were made all the while');
  const moved = bulk.map(({ bytes }) => bytes);
  await sleep(200);
  for (const [i, end] of bulk.entries()) t.ok(end.bytes > (moved[i] ?? 0), 'a long one goes on');
  t.same(
    bulk.flatMap(({ seen }) => seen),
    [],
  );
  t.equal(far.app.store.policies.size, 0);
  t.equal(await near.metric('istio_xds_connection_terminations_total'), 0, 'on one stream');
});
