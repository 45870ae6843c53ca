// The connection tracking table is full: new connections are lost without a word, wherever they pass the kernel. Its size can only be set
// for the whole machine (nf_conntrack_max is read-only in network namespaces), so a rule behind the tracking drops what a full table drops:
// every packet that would need a new entry, in both directions of a pod's namespace.
import type { Socket } from 'node:net';
import t from 'tap';
import { aWorkload } from '../../fixtures/mesh.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { eventually, MeshLab } from '../../harness/mesh-lab.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const stock = aWorkload('stock', { node: 'node-2', ips: ['10.1.0.4'] });
const FULL = `
add table inet full
add chain inet full in { type filter hook prerouting priority -150; }
add chain inet full out { type filter hook output priority -150; }
add rule inet full in ct state new drop
add rule inet full out ct state new drop
`;

t.test(
  'in the namespace of the server: what is open lives, what is new fails after a while with the reason, and recovers',
  async (t) => {
    const lab = new MeshLab(t);
    const [near, far] = [await lab.node('node-1'), await lab.node('node-2')];
    await lab.apply(web, cart, stock);
    const [client, cartPod, stockPod] = [await lab.captured(web), await lab.captured(cart), await lab.captured(stock)];
    const echo = (socket: Socket): void => void socket.pipe(socket);
    const ports = { cart: await cartPod.serve(echo), stock: await stockPod.serve(echo) };
    const to = { cart: { ip: cartPod.ip, port: ports.cart }, stock: { ip: stockPod.ip, port: ports.stock } };
    const connect = async (address: { ip: string; port: number }): Promise<Endpoint> => {
      const end = await Endpoint.open(client, address);
      end.socket.write('hello');
      return end;
    };
    const held = await connect(to.cart);
    await held.untilBytes(5);

    for (const pod of [cartPod, stockPod]) pod.netns.nft(FULL);
    held.socket.write('again');
    await held.untilBytes(10);
    // The one goes through the tunnel connection that is there and fails between the ztunnel and the application, the other has none to use.
    const [behind, before] = [await connect(to.cart), await connect(to.stock)];
    t.match(await near.line({ 'dst.workload': 'stock' }), { error: /connection timed out, maybe a NetworkPolicy is blocking/u });
    t.match(await far.line({ 'dst.workload': 'cart', level: 'error' }), { error: /no answer within 10000 ms/u });
    t.match(await near.line({ 'dst.workload': 'cart', level: 'error' }), { error: /http status: 503/u });
    for (const end of [behind, before]) {
      await end.until('closed');
      t.same(end.seen, ['reset', 'closed']);
    }
    held.socket.write('still');
    await held.untilBytes(15);

    for (const pod of [cartPod, stockPod]) pod.netns.nft('delete table inet full');
    for (const address of [to.cart, to.stock])
      await eventually('service', async () => ((await (await connect(address)).gets(5)) ? true : undefined));
  },
);
