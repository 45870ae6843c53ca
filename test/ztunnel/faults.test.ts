// A fault of a ztunnel's own, in the middle of serving one connection: that one ends, the process and the others do not.
import type { Socket } from 'node:net';
import t from 'tap';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aService, aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { MeshLab } from '../harness/mesh-lab.ts';

const shop = aService('shop', { vips: ['10.96.0.1'], ports: { 80: 8080 } });
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'], services: { shop: { 80: 8080 } } });

for (const backend of BACKENDS)
  t.test(`${backend}: what throws while a tunnel is served ends that tunnel`, async (t) => {
    const lab = new MeshLab(t);
    // On this thread, so that the test can break its state.
    const env = { CULVERT_BACKEND: backend, ZTUNNEL_WORKER_THREADS: 'main' };
    await lab.node('node-1', env);
    const node = await lab.node('node-2', env);
    await lab.apply(shop, web, cart);
    const [client, server] = [await lab.captured(web), await lab.captured(cart)];
    const port = await server.serve((socket: Socket) => void socket.pipe(socket));
    const open = (): Promise<Endpoint> => Endpoint.open(client, { ip: server.ip, port });
    const sound = await open();
    sound.socket.write('one');
    await sound.untilBytes(3);

    const fault = t.capture(node.app.store.services, 'get', () => {
      throw new Error('the test broke it');
    });
    const broken = await open();
    await broken.until('closed');
    t.same(broken.seen, ['reset', 'closed']);
    fault.restore();

    sound.socket.write('two');
    await sound.untilBytes(6);
    const next = await open();
    next.socket.write('three');
    await next.untilBytes(5);
    t.pass('the others are served');
  });
