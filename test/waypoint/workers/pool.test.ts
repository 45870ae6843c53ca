// A waypoint whose tunnels are served by worker threads: one configuration for all of them, one set of numbers, connections shared evenly.
import { connect } from 'node:net';
import type { Worker } from 'node:worker_threads';
import { type Test, test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { AppProtocol } from '#shared/gen/istio/workload/workload_pb.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import { spiffeId } from '#shared/ids.ts';
import { type Backend, createReactor } from '#shared/reactor/create.ts';
import { duplexOver } from '#shared/reactor/portable/duplex.ts';
import { Logging } from '#shared/telemetry/log.ts';
import type { EnvoyResources } from '../../../controlplane/translate/envoy/model.ts';
import { waypointResources } from '../../../controlplane/translate/envoy/waypoint.ts';
import { buildApp } from '../../../waypoint/app.ts';
import { loadConfig } from '../../../waypoint/config.ts';
import { LogLines } from '../../../waypoint/telemetry/log-lines.ts';
import { aMesh, aPolicy, aScope, aService, aWorkload } from '../../controlplane/translate/envoy/mesh.ts';
import {
  askOn,
  CLIENT_ID,
  eventually,
  ownAddress,
  startPod,
  startWaypoint,
  testCertificates,
  testOnBackends,
  WAYPOINT_ID,
  type WaypointLab,
} from '../../harness/waypoint-lab.ts';

const backend = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });
const TO = '10.96.0.1:80';

interface Scene {
  readonly lab: WaypointLab;
  readonly workers: readonly Worker[];
  readonly resources: (...policies: ReturnType<typeof aPolicy>[]) => EnvoyResources;
  /** A client that shares no connection with another one. */
  readonly client: () => { readonly get: (path?: string) => Promise<number>; readonly close: () => void };
  /** Of the exposition; the sum over the label sets that have all of these. */
  readonly metric: (name: string, ...labels: string[]) => Promise<number>;
}

async function start(t: Test, kind: Backend, env: Record<string, string> = {}, count = '2'): Promise<Scene> {
  const workers: Worker[] = [];
  const onWorker = (worker: Worker): void => void workers.push(worker);
  process.on('worker', onWorker);
  t.teardown(() => process.off('worker', onWorker));
  const ip = ownAddress();
  const echo = aService({ name: 'echo', vip: '10.96.0.1', ports: [{ port: 80, target: 8080, protocol: AppProtocol.HTTP11 }] });
  const resources = (...policies: ReturnType<typeof aPolicy>[]): EnvoyResources =>
    waypointResources(
      aMesh({ services: [echo], policies, workloads: [aWorkload({ name: 'echo-0', ip, service: echo })] }),
      aScope({ services: [echo] }),
    );
  const lab = await startWaypoint(t, kind, resources(), testCertificates(), count, env);
  await startPod(t, lab, ip, backend, 8080, (_request, response) => void response.end('ok'));
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  return {
    lab,
    workers,
    resources,
    client() {
      const pool = new ConnectionPool({ reactor, certificates: lab.certificates, clock: systemClock });
      t.teardown(() => pool.close());
      return {
        async get(path = '/') {
          const peer = { source: CLIENT_ID, accepted: [WAYPOINT_ID], to: lab.at, sourceIp: '127.0.0.1' };
          const tunnel = await pool.open({ peer, authority: TO, headers: [], socket: {} });
          const socket = duplexOver(tunnel.stream);
          const { status } = await askOn(socket, { to: TO, path });
          socket.destroy();
          return status;
        },
        close: () => pool.close(),
      };
    },
    async metric(name, ...labels) {
      const text = await (await fetch(`http://127.0.0.1:${lab.metricsPort}/metrics`)).text();
      const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
      const chosen = lines.filter((line) => labels.every((label) => line.includes(label)));
      return chosen.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
    },
  };
}

testOnBackends('two workers: every connection is answered, counted and told', { timeout: 60_000 }, async (t, kind) => {
  const { lab, client, metric, resources } = await start(t, kind);
  const clients = Array.from({ length: 8 }, client);
  for (const { get } of clients) for (let i = 0; i < 3; i++) t.equal(await get(`/${i}`), 200);
  t.equal(await metric('istio_requests_total', 'response_code="200"'), 24);
  t.equal(await metric('istio_request_duration_milliseconds_count', 'response_code="200"'), 24);
  await eventually(async () => {
    const lines = lab.output().match(/"GET \/\d HTTP\/1\.1" 200 /gu)?.length;
    if (lines !== 24) throw new Error(`${lines} lines`);
  });
  const dump = (await (await fetch(`http://127.0.0.1:${lab.adminPort}/config_dump`)).json()) as { dataPlane: object };
  t.strictSame(dump.dataPlane, { workers: 2, backend: kind });
  await lab.update(resources(aPolicy('none', { targetRefs: [{ group: '', kind: 'Service', name: 'echo' }], rules: [] })));
  for (const { get } of clients) t.equal(await get(), 403, 'no worker is behind the policy');
});

test('connections of ztunnels are shared exactly, however the kernel spreads them', { timeout: 60_000 }, async (t) => {
  const { client, metric } = await start(t, 'native', {}, '3');
  const spread = (): Promise<number[]> =>
    Promise.all(['0', '1', '2'].map((worker) => metric('culvert_worker_connections', `worker="${worker}"`)));
  // The lab itself holds one.
  for (let open = 2; open <= 13; open++) {
    t.equal(await client().get(), 200);
    const counts = await spread();
    t.equal(
      counts.reduce((sum, count) => sum + count, 0),
      open,
    );
    t.ok(Math.max(...counts) - Math.min(...counts) <= 1, counts.join(' '));
  }
});

testOnBackends(
  'a worker that fails is replaced: nobody is refused, its counts stay, the successor knows the configuration',
  { timeout: 60_000 },
  async (t, kind) => {
    const { lab, client, metric, workers, resources } = await start(t, kind);
    await lab.update(resources(aPolicy('none', { targetRefs: [{ group: '', kind: 'Service', name: 'echo' }], rules: [] })));
    for (let i = 0; i < 6; i++) t.equal(await client().get(), 403);
    const gone = workers.slice(0, 2).map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
    for (const worker of workers.slice(0, 2)) void worker.terminate();
    await Promise.all(gone);
    for (let i = 0; i < 6; i++) t.equal(await client().get(), 403);
    t.equal(await metric('culvert_worker_restarts_total'), 2);
    t.equal(await metric('istio_requests_total', 'response_code="403"'), 12);
    await eventually(async () => {
      const { status } = await fetch(`http://127.0.0.1:${lab.adminPort}/healthz/ready`);
      if (status !== 200) throw new Error(String(status));
    });
  },
);

testOnBackends('connections beyond the limit are refused and counted with the reason', { timeout: 60_000 }, async (t, kind) => {
  const { client, metric } = await start(t, kind, { MAX_CONNECTIONS: '3' });
  // The lab itself holds one.
  const [first, second] = [client(), client()];
  t.equal(await first.get(), 200);
  t.equal(await second.get(), 200);
  await t.rejects(client().get());
  t.equal(await metric('culvert_connections_shed_total', 'listener="hbone"', 'reason="connections"'), 1);
  first.close();
  await eventually(async () => void (await client().get()));
});

for (const workers of ['1', 'main'])
  test(`when memory is short new connections are refused, and counted with that reason (${workers})`, async (t) => {
    const env: Record<string, string> = {
      POD_NAME: 'waypoint-0',
      POD_NAMESPACE: 'shop',
      SERVICE_ACCOUNT: 'waypoint',
      INSTANCE_IP: '127.0.0.1',
      XDS_ADDRESS: 'http://127.0.0.1:1',
      ...Object.fromEntries(['ADMIN_PORT', 'METRICS_PORT', 'READY_PORT', 'HBONE_PORT'].map((name) => [name, '0'])),
      TERMINATION_GRACE_PERIOD: '1s',
      MINIMUM_DRAIN_DURATION: '1ms',
      WAYPOINT_WORKER_THREADS: workers,
      MAX_MEMORY: '1Mi',
    };
    const app = await buildApp(
      loadConfig((name) => env[name]),
      {
        logging: new Logging({ sink: { write: () => undefined } }),
        accessLog: new LogLines(systemClock, () => undefined),
        certificates: testCertificates(),
      },
    );
    t.teardown(() => app.stop());
    const socket = connect(app.hboneAddress().port, '127.0.0.1').on('error', () => undefined);
    await new Promise((resolve) => socket.once('close', resolve));
    const text = await (await fetch(`http://127.0.0.1:${app.ports.metrics}/metrics`)).text();
    t.match(text, 'culvert_connections_shed_total{listener="hbone",reason="memory"} 1');
  });

testOnBackends('what runs ends in order when the waypoint stops', { timeout: 60_000 }, async (t, kind) => {
  const { lab, client } = await start(t, kind, { MINIMUM_DRAIN_DURATION: '300ms' });
  const { get } = client();
  t.equal(await get(), 200);
  const stopped = lab.stop();
  t.equal(await client().get(), 200, 'ztunnels that have not heard yet are served');
  await stopped;
  await t.rejects(client().get());
});
