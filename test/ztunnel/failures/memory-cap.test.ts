// MAX_MEMORY is reached: new connections are refused and counted, what is open is served, and when memory is back new ones are taken.
// With data workers and without.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { aWorkload } from '../../fixtures/mesh.ts';
import { eventually } from '../../harness/mesh-lab.ts';
import { ZtunnelProcesses } from '../../harness/ztunnel-processes.ts';

t.setTimeout(180_000);

const MiB = 1 << 20;
/** What connections may add to the memory of a ztunnel that has none: some thousands of them, with the garbage that they make. */
const ROOM = 12 * MiB;
const MANY = 16_000;
/** A process gives back what only its start needed when it has been quiet for three looks of 3 s (shared/lifecycle/quiet.ts), ms. */
const SETTLED = 12_000;
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

for (const threads of ['main', '2']) {
  t.test(`ZTUNNEL_WORKER_THREADS=${threads}`, async (t) => {
    const lab = new ZtunnelProcesses(t, [web, cart]);
    const like = await lab.node('node-3', { ZTUNNEL_WORKER_THREADS: threads });
    await sleep(SETTLED);
    const budget = (await like.usage()).anonymous + ROOM;
    await like.kill();
    const near = await lab.node('node-1', { ZTUNNEL_WORKER_THREADS: threads, MAX_MEMORY: String(budget) });
    await lab.node('node-2');
    const client = await lab.holderOf(await lab.captured(web), await lab.captured(cart));
    const shed = () => near.metric('culvert_connections_shed_total', 'listener="outbound",reason="memory"');

    await sleep(SETTLED);
    t.match(await client({ open: 100 }), { held: 100, refused: 0 });
    t.equal(await shed(), 0);
    const full = await client({ open: MANY });
    t.comment(`${full.held} held, ${full.refused} refused`);
    t.ok(full.refused > 0, `${full.refused} of ${MANY} were refused`);
    t.equal(full.lost, 0, 'none was lost for a new one');
    t.equal(await shed(), full.refused, 'each is counted');
    const { anonymous } = await near.usage();
    t.ok(anonymous < budget + 24 * MiB, `${Math.round((anonymous - budget) / MiB)} MiB beyond the budget`);
    t.match(await client({ ask: true }), { answered: full.held }, 'every one that is open is served');

    await client({ close: full.held - 100 });
    const again = await eventually('memory that is back', async () => {
      const before = await client({ ask: true });
      const after = await client({ open: 50 });
      return after.refused === before.refused ? after : undefined;
    });
    t.equal(again.lost, 0);
    t.match(await client({ ask: true }), { answered: again.held });
  });
}
