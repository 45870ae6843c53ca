// A waypoint in the middle: our own or a real Envoy, configured over ADS with the same resources, between clients that open tunnels to
// it and pods that end them. Everything lives on loopback addresses of this process's own.
import http from 'node:http';
import type { Duplex } from 'node:stream';
import { create } from '@bufbuild/protobuf';
import { type Test, test } from 'tap';
import { Server } from '@grpc/grpc-js';
import type { HostPort } from '#shared/address.ts';
import { systemClock } from '#shared/clock.ts';
import { ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { parseAuthority } from '#shared/hbone/authority.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import { relay } from '#shared/hbone/relay.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import type { CertificateSource, WorkloadCertificate } from '#shared/identity/certificate.ts';
import { spiffeId, type SpiffeId } from '#shared/ids.ts';
import type { PeerCertificate, Reactor } from '#shared/reactor/api.ts';
import { type Backend, BACKENDS, createReactor } from '#shared/reactor/create.ts';
import { duplexOver } from '#shared/reactor/portable/duplex.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { AdsServer } from '../../controlplane/serve/ads-server.ts';
import { GeneratorRegistry } from '../../controlplane/serve/generator.ts';
import { listen } from '../../controlplane/serve/grpc-server.ts';
import { encodeSets, ENVOY_TYPES } from '../../controlplane/serve/waypoint-generator.ts';
import { ResourceSet } from '../../controlplane/snapshot/resource-set.ts';
import type { Snapshot } from '../../controlplane/snapshot/snapshot.ts';
import { socketAddress } from '../../controlplane/translate/envoy/messages.ts';
import type { EnvoyResources } from '../../controlplane/translate/envoy/model.ts';
import { envoyRegistry } from '../../controlplane/translate/envoy/registry.ts';
import { buildApp } from '../../waypoint/app.ts';
import { loadConfig } from '../../waypoint/config.ts';
import { LogLines } from '../../waypoint/telemetry/log-lines.ts';
import { ServerCredentials } from '@grpc/grpc-js';
import { runEnvoy } from './envoy.ts';
import { adsBootstrap } from './envoy-bootstrap.ts';
import { createTestCa } from './test-ca.ts';

export const WAYPOINT_ID = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'waypoint' });
export const CLIENT_ID = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'client' });

let addresses = 1;

/** A loopback address that no other process and no other call gets. */
export function ownAddress(): string {
  addresses += 1;
  return `127.${64 + ((process.pid >> 8) & 0x7f)}.${process.pid & 0xff}.${addresses}`;
}

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}

export interface Ask {
  /** Where the client dials: `VIP:port`. */
  to: string;
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
  as?: SpiffeId;
}

export interface WaypointLab {
  /** Resolves when the control plane has sent it. */
  update(resources: EnvoyResources): Promise<void>;
  /** A tunnel through the waypoint; rejects when it is refused. */
  connect(to: string, as?: SpiffeId): Promise<Duplex>;
  ask(ask: Ask): Promise<Answer>;
  /** Access log and diagnostics so far. */
  output(): string;
  /** NACKs that the control plane got. */
  rejections(): string[];
  /** Of our own waypoint only. */
  metricsPort: number;
  /** Of our own waypoint only. */
  adminPort: number;
  /** Where it takes tunnels. */
  readonly at: HostPort;
  readonly certificates: CertificateSource;
  /** As SIGTERM does. */
  stop(): Promise<void>;
}

/** A test on each backend of our waypoint. */
export function testOnBackends(
  name: string,
  options: { timeout: number },
  run: (t: Test, backend: Backend) => Promise<void>,
): void {
  for (const backend of BACKENDS) test(`${name} (${backend})`, options, (t) => run(t, backend));
}

interface Teardown {
  teardown(task: () => unknown): void;
}

/** Certificates of one authority, each made when first asked for. */
export function testCertificates(): CertificateSource {
  const ca = createTestCa();
  const issued = new Map<string, WorkloadCertificate>();
  return {
    get: async (identity) => {
      const known = issued.get(identity) ?? ca.issue(identity);
      issued.set(identity, known);
      return known;
    },
  };
}

/** Starts our waypoint on a backend, or a real Envoy, with its first configuration and waits until it takes tunnels. */
export async function startWaypoint(
  t: Teardown,
  kind: Backend | 'envoy',
  resources: EnvoyResources,
  certificates: CertificateSource = testCertificates(),
  workers = 'main',
  env: Record<string, string> = {},
): Promise<WaypointLab> {
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const plane = await controlPlane(t, resources);
  const listenAt = ownAddress();
  let output: () => string;
  let metricsPort = 0;
  let adminPort = 0;
  let stop: () => Promise<void>;
  let at: HostPort = { ip: listenAt, port: 15_008 };
  if (kind === 'envoy') {
    plane.bindTo = listenAt;
    const envoy = runEnvoy(adsBootstrap(plane.port, await certificates.get(WAYPOINT_ID)), process.env['ENVOY_LOG'] ?? 'warning');
    stop = once(async () => envoy[Symbol.asyncDispose]());
    t.teardown(stop);
    output = () => envoy.output();
  } else {
    let text = '';
    const sink = { write: (line: string) => void (text += line) };
    const app = await buildApp(ownConfig(plane.port, kind, { WAYPOINT_WORKER_THREADS: workers, ...env }), {
      logging: new Logging({ level: 'debug', sink }),
      accessLog: new LogLines(systemClock, (lines) => sink.write(Buffer.from(lines).toString())),
      certificates,
    });
    stop = once(() => app.stop());
    t.teardown(stop);
    output = () => text;
    metricsPort = app.ports.metrics;
    adminPort = app.ports.admin;
    at = { ip: '127.0.0.1', port: app.hboneAddress().port };
  }
  const pool = new ConnectionPool({ reactor, certificates, clock: systemClock });
  t.teardown(() => pool.close());
  const connect = async (to: string, as: SpiffeId = CLIENT_ID): Promise<Duplex> => {
    const peer = { source: as, accepted: [WAYPOINT_ID], to: at, sourceIp: '127.0.0.1' };
    const tunnel = await pool.open({
      peer,
      authority: to,
      headers: [['baggage', 'k8s.namespace.name=shop,k8s.pod.name=client']],
      socket: {},
    });
    const duplex = duplexOver(tunnel.stream);
    // Whoever waits for it hears of a reset; without anybody it is no fault.
    duplex.on('error', () => undefined);
    return duplex;
  };
  const lab: WaypointLab = {
    update: (next) => plane.update(next),
    connect,
    ask: (ask) => askThrough(connect, ask),
    output,
    rejections: () => plane.rejections(),
    metricsPort,
    adminPort,
    at,
    certificates,
    stop,
  };
  await plane.acknowledged();
  await eventually(() =>
    connect('127.255.255.1:1').then(
      (duplex) => void duplex.destroy(),
      (error: unknown) => {
        if (!/answered CONNECT/u.test(String(error))) throw error;
      },
    ),
  );
  return lab;
}

/** A pod: ends tunnels to its own address as its identity, and runs an HTTP server that tells what it got. */
export async function startPod(
  t: Teardown,
  lab: Pick<WaypointLab, 'certificates'>,
  ip: string,
  identity: SpiffeId,
  port: number,
  handler: http.RequestListener,
): Promise<{ tunnels: PeerCertificate[] }> {
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const server = http.createServer(handler);
  await new Promise<void>((resolve) => server.listen(port, ip, resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { tunnels: await endTunnels(reactor, lab.certificates, ip, identity) };
}

/** The ztunnel's part at a pod: HBONE on 15008 of its address. Returns who came. */
export async function endTunnels(
  reactor: Reactor,
  certificates: CertificateSource,
  ip: string,
  identity: SpiffeId,
): Promise<PeerCertificate[]> {
  const peers: PeerCertificate[] = [];
  await reactor.listen({ address: { ip, port: 15_008 } }, (conn) => {
    void (async () => {
      const certificate = await certificates.get(identity);
      const tls = await reactor.tlsServer(conn, { certificate, alpn: ['h2'], verifyPeer: (peer) => void peers.push(peer) });
      serveHbone(tls, { reactor, clock: systemClock }, (tunnel) => {
        const target = parseAuthority(tunnel.authority);
        if (target?.kind !== 'ip') return tunnel.refuse(400);
        reactor.connect({ to: target.address }).then(
          (upstream) => void relay(tunnel.accept([]), upstream),
          () => tunnel.refuse(503),
        );
      });
    })().catch(() => conn.reset());
  });
  return peers;
}

async function askThrough(connect: WaypointLab['connect'], ask: Ask): Promise<Answer> {
  const socket = await connect(ask.to, ask.as);
  try {
    return await askOn(socket, ask);
  } finally {
    socket.destroy();
  }
}

/** One request on an open connection. */
export function askOn(socket: Duplex, { to, method = 'GET', path = '/', headers = {}, body }: Ask): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options: http.RequestOptions = {
      method,
      path,
      headers: { host: to, connection: 'keep-alive', ...headers },
      createConnection: () => socket,
    };
    const request = http.request(options, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => void (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
      response.on('error', reject);
    });
    request.on('error', reject);
    const timer = setTimeout(() => request.destroy(new Error('no answer in 20 s')), 20_000);
    request.on('close', () => clearTimeout(timer));
    request.end(body);
  });
}

interface Plane {
  readonly port: number;
  /** Listen address that connect_terminate gets, for a real Envoy. */
  bindTo: string | undefined;
  update(resources: EnvoyResources): Promise<void>;
  acknowledged(): Promise<void>;
  rejections(): string[];
}

async function controlPlane(t: Teardown, first: EnvoyResources): Promise<Plane> {
  let sequence = 1;
  let current = first;
  let bindTo: string | undefined;
  let text = '';
  const registry = new GeneratorRegistry();
  registry.register(['waypoint'], ENVOY_TYPES, {
    registry: envoyRegistry,
    generate: (_snapshot, _node, typeUrl) => encodeSets(bound(current, bindTo)).sets.get(typeUrl) ?? ResourceSet.empty,
  });
  const ads = new AdsServer({
    registry,
    snapshot: () => ({ sequence, changed: 0 }) as Snapshot,
    metrics: new Metrics(),
    clock: systemClock,
    log: new Logging({ sink: { write: (line) => void (text += line) } }).scope('ads'),
  });
  const server = new Server();
  ads.addTo(server);
  const port = await listen(server, '127.0.0.1', 0, ServerCredentials.createInsecure());
  t.teardown(() => {
    ads.close();
    server.forceShutdown();
  });
  return {
    port,
    get bindTo() {
      return bindTo;
    },
    set bindTo(ip) {
      bindTo = ip;
    },
    async update(resources) {
      current = resources;
      sequence += 1;
      ads.pushAll();
      await new Promise((resolve) => setTimeout(resolve, 300));
    },
    async acknowledged() {
      await eventually(async () => {
        if (ads.streams.size === 0) throw new Error('the waypoint has not connected');
      });
      await new Promise((resolve) => setTimeout(resolve, 300));
    },
    rejections: () => text.split('\n').filter((line) => line.includes('reject')),
  };
}

function bound(resources: EnvoyResources, ip: string | undefined): EnvoyResources {
  if (ip === undefined) return resources;
  const listeners = resources.listeners.map((listener) =>
    listener.name === 'connect_terminate'
      ? create(ListenerSchema, { ...listener, address: socketAddress(ip, 15_008) })
      : listener,
  );
  return { ...resources, listeners };
}

function ownConfig(xdsPort: number, backend: Backend, more: Record<string, string>): ReturnType<typeof loadConfig> {
  const env: Record<string, string> = {
    POD_NAME: 'waypoint-0',
    POD_NAMESPACE: 'shop',
    SERVICE_ACCOUNT: 'waypoint',
    INSTANCE_IP: '127.0.0.1',
    XDS_ADDRESS: `http://127.0.0.1:${xdsPort}`,
    ADMIN_PORT: '0',
    METRICS_PORT: '0',
    READY_PORT: '0',
    HBONE_PORT: '0',
    TERMINATION_GRACE_PERIOD: '1s',
    CULVERT_BACKEND: backend,
    ...more,
  };
  return loadConfig((name) => env[name]);
}

function once(task: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => (running ??= task());
}

/** Retries until it does not throw; 10 s at most. */
export async function eventually(task: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    try {
      return await task();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
