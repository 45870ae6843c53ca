// Our waypoint as it is measured: the data path of waypoint/ on one thread, with metrics and the access log on standard output. Takes
// tunnels as the product does, and connections without a tunnel at the services' addresses, so that the core is measured alone too.
// `proxy.ts JSON` (ProxyOptions) prints `ready` on standard error when the configuration has come.
import { systemClock } from '#shared/clock.ts';
import { formatHostPort, type HostPort } from '#shared/address.ts';
import { ConnectionLimit } from '#shared/lifecycle/connection-limit.ts';
import { keepGarbageYoung } from '#shared/lifecycle/young-garbage.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { CancelScope } from '#shared/lifecycle/cancel.ts';
import type { Conn, Reactor, TlsConn } from '#shared/reactor/api.ts';
import { type Backend, createReactor } from '#shared/reactor/create.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { writeAll } from '#shared/telemetry/stdout-sink.ts';
import { DeltaClient } from '#shared/xds/delta-client.ts';
import { xdsNode } from '#shared/xds/node.ts';
import { createDataPath, currentChains, type DataPath } from '../../waypoint/data-path.ts';
import { HboneListener } from '../../waypoint/listener/hbone.ts';
import { type CurrentChains, serveTunnel } from '../../waypoint/listener/tunnel.ts';
import { LogLines } from '../../waypoint/telemetry/log-lines.ts';
import { ConfigStore } from '../../waypoint/xds/config-store.ts';
import { subscribeConfig } from '../../waypoint/xds/subscriptions.ts';

const STDOUT = 1;

export interface ProxyOptions {
  readonly backend: Backend;
  readonly xdsPort: number;
  readonly certificate: WorkloadCertificate;
  /** Where tunnels are taken. */
  readonly tunnelsAt: HostPort;
  /** Where connections without a tunnel are taken, meant for just that address. */
  readonly plainAt: readonly HostPort[];
}

keepGarbageYoung();
await startProxy(JSON.parse(process.argv[2] ?? '') as ProxyOptions);

async function startProxy({ backend, xdsPort, certificate, tunnelsAt, plainAt }: ProxyOptions): Promise<void> {
  const logging = new Logging({ level: 'warn', sink: { write: (line) => process.stderr.write(line) } });
  const log = logging.scope('waypoint');
  const metrics = new Metrics();
  const reactor = createReactor({ backend });
  const certificates = { get: async () => certificate };
  const store = new ConfigStore();
  const { identity } = certificate;
  const instanceIp = tunnelsAt.ip;
  const tunnels = new ConnectionPool({ reactor, certificates, clock: systemClock });
  const path = createDataPath({
    store,
    reactor,
    tunnels,
    clock: systemClock,
    metrics,
    log,
    identity,
    instanceIp,
    accessLog: new LogLines(systemClock, (lines) => writeAll(STDOUT, lines)),
  });
  const chains = currentChains(store);
  const hbone = new HboneListener({
    reactor,
    clock: systemClock,
    log,
    certificates,
    identity,
    trustDomains: ['cluster.local'],
    maxStreams: () => 100,
    limit: new ConnectionLimit({ max: Infinity }, metrics, { held: new Int32Array(1), own: 0, short: new Int32Array(1) }),
    onTunnel: (tunnel, conn) => void serveTunnel(tunnel, conn, chains, path.tunnels),
  });
  await hbone.listen({ address: tunnelsAt });
  for (const address of plainAt) await listenPlain(reactor, address, chains, path);
  const client = new DeltaClient({
    endpoint: { address: `http://127.0.0.1:${xdsPort}`, rootCert: '', authToken: undefined, clusterId: 'Kubernetes' },
    node: xdsNode({
      kind: 'waypoint',
      instanceIp,
      podName: 'waypoint-0',
      podNamespace: 'bench',
      nodeName: undefined,
      serviceAccount: 'waypoint',
      clusterId: 'Kubernetes',
      clusterDomain: 'cluster.local',
    }),
    log,
    metrics,
  });
  let ready = false;
  subscribeConfig(client, store, () => {
    if (ready || !chains()) return;
    ready = true;
    process.stderr.write('ready\n');
  });
  client.start();
}

/** Each connection as if it had come through a tunnel to this address, without the cost of one. */
async function listenPlain(reactor: Reactor, address: HostPort, chains: CurrentChains, path: DataPath): Promise<void> {
  const peer = { uris: [], serial: '' };
  await reactor.listen({ address }, (conn: Conn) => {
    const tunnel: IncomingTunnel = {
      method: 'CONNECT',
      authority: formatHostPort(address),
      headers: [],
      accept: () => conn,
      refuse: () => conn.reset(),
      cancel: new CancelScope(),
    };
    void serveTunnel(tunnel, Object.assign(conn, { peer, alpn: '' }) satisfies TlsConn, () => chains(), path.tunnels);
  });
}
