// Our waypoint as it is measured: the data path of waypoint/ on one thread, with metrics and the access log on standard output. Takes
// tunnels as the product does, and connections without a tunnel at the services' addresses, so that the core is measured alone too.
// `proxy.ts JSON` (ProxyOptions) prints `ready` on standard error when the configuration has come.
import { systemClock } from '#shared/clock.ts';
import { formatHostPort, type HostPort } from '#shared/address.ts';
import { keepGarbageYoung } from '#shared/lifecycle/young-garbage.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { parseSpiffeId } from '#shared/ids.ts';
import { CancelScope } from '#shared/lifecycle/cancel.ts';
import { listenTcp } from '#shared/os/socket-factory.ts';
import type { Conn, Reactor, TlsConn } from '#shared/reactor/api.ts';
import { type Backend, createReactor } from '#shared/reactor/create.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { writeLines } from '#shared/telemetry/stdout-sink.ts';
import { DeltaClient } from '#shared/xds/delta-client.ts';
import { xdsNode } from '#shared/xds/node.ts';
import type { WaypointConfig } from '../../waypoint/config.ts';
import { loadConfig } from '../../waypoint/config.ts';
import { currentChains } from '../../waypoint/data-path.ts';
import { LogLines } from '../../waypoint/telemetry/log-lines.ts';
import type { Serving } from '../../waypoint/workers/serving.ts';
import { createServing } from '../../waypoint/workers/serving.ts';
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
  const config = configOf({ backend, xdsPort, certificate, tunnelsAt });
  const logging = new Logging({ level: 'warn', sink: { write: (line) => process.stderr.write(line) } });
  const log = logging.scope('waypoint');
  const metrics = new Metrics();
  const store = new ConfigStore();
  const serving = createServing({
    config,
    store,
    certificates: { get: async () => certificate },
    metrics,
    logging,
    accessLog: new LogLines(systemClock, (lines) => writeLines(STDOUT, lines)),
    places: { held: new Int32Array(1), own: 0, short: new Int32Array(1) },
  });
  await serving.listen(listenTcp({ address: tunnelsAt }));
  const plain = createReactor({ backend });
  for (const address of plainAt) await listenPlain(plain, address, serving);
  const chains = currentChains(store);
  const client = new DeltaClient({
    endpoint: { address: config.xdsAddress, rootCert: '', authToken: undefined, clusterId: config.clusterId },
    node: xdsNode({
      kind: 'waypoint',
      instanceIp: config.instanceIp,
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
    serving.onConfig();
    if (ready || !chains()) return;
    ready = true;
    process.stderr.write('ready\n');
  });
  client.start();
}

/** What the environment of such a waypoint would say. */
function configOf({ backend, xdsPort, certificate, tunnelsAt }: Omit<ProxyOptions, 'plainAt'>): WaypointConfig {
  const { namespace, serviceAccount, trustDomain } = parseSpiffeId(certificate.identity) ?? {};
  const env: Record<string, string | undefined> = {
    CULVERT_BACKEND: backend,
    XDS_ADDRESS: `http://127.0.0.1:${xdsPort}`,
    POD_NAME: 'waypoint-0',
    POD_NAMESPACE: namespace,
    SERVICE_ACCOUNT: serviceAccount,
    TRUST_DOMAIN: trustDomain,
    INSTANCE_IP: tunnelsAt.ip,
  };
  return loadConfig((name) => env[name]);
}

/** Each connection as if it had come through a tunnel to this address, without the cost of one. */
async function listenPlain(reactor: Reactor, address: HostPort, serving: Serving): Promise<void> {
  const peer = { uris: [], serial: '' };
  await reactor.listen({ address }, (conn: Conn) => {
    const tunnel: IncomingTunnel = {
      method: 'CONNECT',
      authority: formatHostPort(address),
      headers: [],
      bytesWait: false,
      takeBytes: () => undefined,
      accept: () => conn,
      refuse: () => conn.reset(),
      cancel: new CancelScope(),
    };
    serving.serve(tunnel, Object.assign(conn, { peer, alpn: '' }) satisfies TlsConn);
  });
}
