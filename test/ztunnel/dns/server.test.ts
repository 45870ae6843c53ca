// The TCP side of a pod's DNS server, against a client that does not do its part.
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { framed } from '../../../ztunnel/dns/framing.ts';
import { bindDns, DnsServer } from '../../../ztunnel/dns/server.ts';

t.test('a client that asks on and reads nothing is held back, and gets all answers once it reads', async (t) => {
  let asked = 0;
  const sockets = bindDns({ addresses: [{ ip: '127.0.0.1', port: 0 }], reusePort: false });
  const server = new DnsServer(sockets, {
    answer: async () => {
      asked += 1;
      return Buffer.alloc(60_000);
    },
    clock: systemClock,
    log: new Logging({ sink: { write: () => undefined } }).scope('dns'),
  });
  t.teardown(() => server.stop(0));
  const port = sockets.find(({ transport }) => transport === 'tcp')?.address.port ?? 0;
  const client = connect(port, '127.0.0.1');
  t.teardown(() => client.destroy());
  await once(client, 'connect');
  const count = 2000;
  for (let i = 0; i < count; i++) client.write(framed(Buffer.alloc(40)));
  await setTimeout(500);
  t.ok(asked < count / 2, `${asked} questions were taken up`);
  let bytes = 0;
  client.on('data', (chunk: Buffer) => (bytes += chunk.length));
  while (bytes < count * 60_002) await once(client, 'data');
  t.equal(asked, count);
});
