// The old ztunnel's side by itself: what happens when it cannot let go of everything.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '#shared/clock.ts';
import { connectSeqpacket } from '#shared/os/seqpacket.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { TakeoverGiver } from '../../../ztunnel/takeover/giver.ts';

t.test('once another one serves there is no way back: a fault in letting go is told as such', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-giver-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  let log = '';
  const metrics = new Metrics();
  metrics.counter('istio_requests_total', 'of the old one').add(7);
  await using giver = new TakeoverGiver({
    path: join(dir, 'takeover.sock'),
    build: 'old',
    pods: { served: () => [], hold: async () => ({ [Symbol.dispose]: () => undefined }) },
    own: undefined,
    sockets: { setsOf: () => [], reuse: true },
    plane: { takeRelays: async () => [], resumeRelay: () => undefined },
    metrics,
    clock: systemClock,
    log: new Logging({ sink: { write: (line) => void (log += line) } }).scope('takeover'),
    letGo: () => Promise.reject(new Error('a port that does not close')),
  });
  giver.listen();
  using conn = await connectSeqpacket(join(dir, 'takeover.sock'));
  const heard = async (): Promise<string> => Buffer.from((await conn.receive())?.data ?? []).toString();
  await conn.send(Buffer.from('{"type":"hello","version":2,"build":"new"}'));
  t.match(await heard(), /hello/u);
  await conn.send(Buffer.from('{"type":"give","relays":true}'));
  t.match(await heard(), /"all","pods":0/u);
  await conn.send(Buffer.from('{"type":"serving"}'));
  t.match(await heard(), /"counters".*istio_requests_total.*7/u, 'what was counted, before anybody asks the successor for it');
  t.match(await heard(), /released/u, 'the successor goes on');
  t.match(log, /not everything could be let go of.*a port that does not close/u);
  t.notMatch(log, /this ztunnel goes on/u);
});
