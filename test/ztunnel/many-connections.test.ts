// Ten thousand connections at once through two ztunnels, and what happens beyond the limits: of connections, and of descriptors.
import t from 'tap';
import type { Test } from 'tap';
import type { HolderReport } from '../fixtures/holder.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { ZtunnelProcesses, type ZtunnelNode } from '../harness/ztunnel-processes.ts';

const MANY = 10_000;
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });

/** Shed when it came in, or failed because there was no way on for it; one refused tunnel connection fails all that wait for it. */
async function eachIsCounted(t: Test, node: ZtunnelNode, { refused }: HolderReport): Promise<void> {
  const shed = await node.metric('culvert_connections_shed_total', 'listener="outbound"');
  const failed = await node.metric('istio_tcp_connections_failed_total', 'reporter="source"');
  t.ok(shed > 0 || failed > 0);
  t.equal(shed + failed, refused, `${shed} shed and ${failed} failed, each counted`);
}

t.test(`${MANY} connections through a tunnel, and some more than the limit`, async (t) => {
  const lab = new ZtunnelProcesses(t, [web, cart, api]);
  const limit = { MAX_CONNECTIONS: String(MANY + 300) };
  const [near, far] = [await lab.node('node-1', limit), await lab.node('node-2', limit)];
  const client = await lab.holderOf(await lab.captured(web), await lab.captured(cart));
  await client({ open: 100 });
  const before = [await near.usage(), await far.usage()];
  const started = performance.now();
  t.match(await client({ open: MANY - 100 }), { held: MANY, refused: 0, lost: 0 });
  t.comment(`${MANY} connections opened in ${Math.round(performance.now() - started)} ms`);
  t.match(await client({ ask: true }), { answered: MANY }, 'every one of them is served');
  for (const [index, node] of [near, far].entries()) {
    const { descriptors, anonymous } = await node.usage();
    t.ok(descriptors < MANY + 400, `${descriptors} descriptors: one for a connection, and those of the tunnels`);
    const each = (anonymous - (before[index]?.anonymous ?? 0)) / (MANY - 100);
    t.ok(each < 12_000, `${Math.round(each)} bytes of anonymous memory for each`);
  }

  const beyond = await client({ open: 1000 });
  t.ok(beyond.held >= MANY && beyond.held <= MANY + 300, `${beyond.held} are held`);
  t.equal(beyond.held + beyond.refused, MANY + 1000, 'and the others were refused');
  t.equal(beyond.lost, 0, 'none was lost for a new one');
  await eachIsCounted(t, near, beyond);
  t.match(await client({ ask: true }), { answered: beyond.held });

  await client({ close: 5000 });
  t.match(await client({ open: 1000 }), { lost: 0, refused: beyond.refused }, 'where others have closed there is room again');
  t.match(await client({ ask: true }), { answered: beyond.held - 4000 });
});

t.test('without descriptors: what is open is served, what is new is refused and counted', async (t) => {
  const lab = new ZtunnelProcesses(t, [web, cart, api]);
  const node = await lab.node('node-1', { MAX_CONNECTIONS: '100000' }, 400);
  const client = await lab.holderOf(await lab.captured(web), await lab.captured(api));
  await client({ open: 10 });
  const { descriptors } = await node.usage();
  const room = Math.floor((400 - descriptors) / 2);
  const full = await client({ open: 1000 });
  t.ok(full.held > room && full.held <= room + 11, `${full.held} are held with room for ${room + 10}`);
  t.equal(full.held + full.refused, 1010);
  t.equal(full.lost, 0);
  t.match(await client({ ask: true }), { answered: full.held });
  await eachIsCounted(t, node, full);
  await client({ close: 50 });
  t.match(await client({ open: 40 }), { lost: 0, refused: full.refused, held: full.held - 10 }, 'there is room again');
  t.match(await client({ ask: true }), { answered: full.held - 10 });
});
