// Two ztunnels whose every address and length is looked at before the kernel or OpenSSL has it: tunnels, relays and plaintext, with what the
// data plane lends and keeps on the way.
import t from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { through } from '../harness/lanes.ts';
import { random } from '../harness/mutate.ts';
import { transfers } from '../harness/transfer.ts';
import { ZtunnelProcesses } from '../harness/ztunnel-processes.ts';

const COUNT = 100;
const SEED = Number(process.env['TEST_SEED'] ?? Date.now() % 1e9);
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

for (const worker of ['main', '1'])
  t.test(`ZTUNNEL_WORKER_THREADS=${worker}: no pointer of the data plane is wrong`, async (t) => {
    const lab = new ZtunnelProcesses(t, [web, api, cart], { CULVERT_DEBUG_POINTERS: '1' });
    const nodes = [
      await lab.node('node-1', { ZTUNNEL_WORKER_THREADS: worker }),
      await lab.node('node-2', { ZTUNNEL_WORKER_THREADS: worker }),
    ];
    const [client, near, far] = [await lab.captured(web), await lab.captured(api), await lab.captured(cart)];
    const stranger = lab.net.pod('stranger', '10.1.0.9');
    const ways = {
      'within a node': [client, near],
      'through a tunnel': [client, far],
      plaintext: [stranger, far],
      passthrough: [client, stranger],
    } as const;
    for (const [way, [from, to]] of Object.entries(ways)) {
      await transfers(await through(from, to), COUNT, SEED, { random });
      t.pass(`${way}: ${COUNT} transfers, TEST_SEED=${SEED}`);
    }
    for (const node of nodes) t.ok((await node.metric('istio_tcp_connections_opened_total')) >= COUNT);
  });
