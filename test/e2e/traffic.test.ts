// Traffic through a whole mesh on two nodes: in and out of it, same node and across, both ways of ending, large transfers.
import t from 'tap';
import { logged, startMeshApp } from '../harness/mesh-app.ts';

const MIB = 1024 * 1024;
const INSIDE = 'spiffe://cluster.local/ns/inside/sa';

t.test('a mesh of two nodes', async (t) => {
  const app = await startMeshApp(t);

  await t.test('every pair of pods, and the application sees its client', async (t) => {
    for (const from of ['one', 'plain']) {
      const ip = await app.ip(from);
      for (const to of ['near.inside', 'far.inside', 'plain.outside', 'plain-far.outside']) {
        // A pod that reaches itself through its Service is masqueraded by its node.
        if (to.startsWith(`${from}.`)) continue;
        t.equal(await app.ask(from, to), `${to.split('.')[0] ?? ''} ${ip} GET`, `${from} to ${to}`);
      }
    }
  });

  await t.test('across nodes it is mTLS with both identities, in the log of both ztunnels', async (t) => {
    const identities = [`src.identity="${INSIDE}/one"`, `dst.identity="${INSIDE}/far"`];
    t.match(await logged(app, 'node-1', ...identities, 'direction="outbound"'), /dst\.addr=10\.244\.2\.\d+:15008/u);
    t.match(
      await logged(app, 'node-2', ...identities, 'direction="inbound"'),
      /dst\.service="far\.inside\.svc\.cluster\.local"/u,
    );
  });

  await t.test('from outside there is no identity to show', async (t) => {
    const line = await logged(app, 'node-2', 'src.workload="plain"', 'direction="inbound"');
    t.ok(line);
    t.notMatch(line, /src\.identity/u);
  });

  await t.test('64 MiB each way arrive whole', async (t) => {
    for (const [from, to] of [
      ['one', 'far.inside'],
      ['one', 'near.inside'],
      ['plain', 'far.inside'],
      ['one', 'plain-far.outside'],
    ] as const) {
      t.match(
        await app.client(from, 'send', to, String(64 * MIB)),
        { same: true },
        `${from} sends to ${to}, ends, and is answered`,
      );
      t.match(
        await app.client(from, 'receive', to, String(64 * MIB)),
        { bytes: 64 * MIB },
        `${to} sends to ${from} and ends first`,
      );
      t.equal(await app.ask(from, `${to}/late`), '10', 'what the client sent after the server had ended arrived');
    }
  });

  await t.test('metrics count what the log tells', async (t) => {
    const { nodes } = await app.lab.state();
    const netns = nodes.find(({ name }) => name === 'node-2')?.netns ?? '';
    const { execFile } = await import('node:child_process');
    const text = await new Promise<string>((resolve, reject) =>
      execFile(
        'nsenter',
        [`--net=/run/netns/${netns}`, 'curl', '-sS', 'http://127.0.0.1:15020/metrics'],
        { maxBuffer: 1 << 24 },
        (error, out) => (error ? reject(error) : resolve(out)),
      ),
    );
    const line = text
      .split('\n')
      .find((each) => each.startsWith('istio_tcp_connections_opened_total') && each.includes(`${INSIDE}/one`));
    t.match(line, /reporter="destination"/u);
    t.match(line, /connection_security_policy="mutual_tls"/u);
    t.match(line, /destination_service="far\.inside\.svc\.cluster\.local"/u);
  });
});
