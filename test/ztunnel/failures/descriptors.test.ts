// The ztunnel at the far end of tunnels has no descriptor left for another connection to an application: it says so in its answer, the
// tunnels that are open live, and there is room again when others have closed. Its own node: test/ztunnel/many-connections.test.ts.
import t from 'tap';
import { aWorkload } from '../../fixtures/mesh.ts';
import { ZtunnelProcesses } from '../../harness/ztunnel-processes.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

t.test('no descriptor for the application', async (t) => {
  const lab = new ZtunnelProcesses(t, [web, cart]);
  const [near, far] = [await lab.node('node-1'), await lab.node('node-2', { MAX_CONNECTIONS: '100000' }, 300)];
  const client = await lab.holderOf(await lab.captured(web), await lab.captured(cart));
  await client({ open: 10 });
  const room = 300 - (await far.usage()).descriptors;
  const full = await client({ open: room + 200 });
  t.ok(full.held > 10 && full.held <= room + 11, `${full.held} are held with room for ${room + 10}`);
  t.equal(full.held + full.refused, room + 210);
  t.equal(full.lost, 0, 'what was open lives');
  t.match(await client({ ask: true }), { answered: full.held });
  t.ok((await near.metric('istio_tcp_connections_failed_total', 'reporter="source"')) >= full.refused, 'each refusal is counted');
  await client({ close: 50 });
  t.match(await client({ open: 40 }), { lost: 0, refused: full.refused, held: full.held - 10 }, 'there is room again');
  t.match(await client({ ask: true }), { answered: full.held - 10 });
  // Only now it has one for whoever asks.
  t.equal(
    await far.metric('istio_tcp_connections_failed_total', 'response_flags="UO"'),
    full.refused,
    'as a limit of ours, at the far end',
  );
});
