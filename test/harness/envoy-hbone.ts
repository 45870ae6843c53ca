// A real Envoy as one end of an HBONE tunnel: plain TCP in and HBONE out (as a ztunnel's outbound side), or the reverse.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { HostPort } from '#shared/address.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';

const binary = path.resolve(import.meta.dirname, '..', '..', '.envoy', 'bin', 'envoy');
const ENVOY = 'type.googleapis.com/envoy.';
const EXTENSION = `${ENVOY}extensions.`;
const HTTP_OPTIONS = 'extensions.upstreams.http.v3.HttpProtocolOptions';

export type EnvoyRole =
  /** Plain TCP in, a CONNECT to `authority` at `peer` out. */
  | { kind: 'client'; peer: HostPort; authority: string }
  /** HBONE in, plain TCP to `upstream` out. */
  | { kind: 'server'; upstream: HostPort };

export interface HboneEnvoy extends AsyncDisposable {
  /** Where it listens. */
  readonly address: HostPort;
  /** What Envoy logged so far. */
  readonly log: () => string;
}

/** Starts Envoy and waits until it listens on a port of loopback; fails after ten seconds with what Envoy said. */
export async function hboneEnvoy(role: EnvoyRole, certificate: WorkloadCertificate): Promise<HboneEnvoy> {
  const folder = mkdtempSync(path.join(tmpdir(), 'culvert-envoy-'));
  const address = { ip: '127.0.0.1', port: await freePort() };
  const file = path.join(folder, 'envoy.json');
  writeFileSync(file, JSON.stringify(bootstrap(role, address, certificate)));
  const args = ['-c', file, '-l', 'warning', '--concurrency', '1', '--use-dynamic-base-id'];
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => void (log += chunk.toString()));
  const exited = once(child, 'exit');
  const dispose = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    rmSync(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + 10_000;
  while (!(await answers(address))) {
    if (Date.now() < deadline && child.exitCode === null) continue;
    await dispose();
    throw new Error(`Envoy does not listen:\n${log}`);
  }
  return { address, log: () => log, [Symbol.asyncDispose]: dispose };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function answers(address: HostPort): Promise<boolean> {
  const socket = connect(address.port, address.ip);
  const connected = await new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
  });
  socket.destroy();
  if (!connected) await new Promise((resolve) => setTimeout(resolve, 50));
  return connected;
}

function bootstrap(role: EnvoyRole, listen: HostPort, certificate: WorkloadCertificate): object {
  const filters = role.kind === 'client' ? [tunnelOut(role.authority)] : [connectIn()];
  const clusters = role.kind === 'client' ? [hbonePeer(role.peer, certificate)] : [cluster('app', role.upstream)];
  const inboundTls = typed('tls', 'transport_sockets.tls.v3.DownstreamTlsContext', {
    common_tls_context: tlsContext(certificate),
    require_client_certificate: true,
  });
  const chain = { filters, ...(role.kind === 'server' ? { transport_socket: inboundTls } : {}) };
  return { static_resources: { listeners: [{ name: 'in', address: socketAddress(listen), filter_chains: [chain] }], clusters } };
}

function tunnelOut(authority: string): object {
  return typed('tcp_proxy', 'filters.network.tcp_proxy.v3.TcpProxy', {
    stat_prefix: 'out',
    cluster: 'peer',
    tunneling_config: {
      hostname: authority,
      headers_to_add: [{ header: { key: 'baggage', value: 'k8s.namespace.name=envoy' } }],
    },
  });
}

function connectIn(): object {
  const route = { cluster: 'app', upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }] };
  return typed('http', 'filters.network.http_connection_manager.v3.HttpConnectionManager', {
    stat_prefix: 'in',
    stream_idle_timeout: '0s',
    http2_protocol_options: { allow_connect: true },
    upgrade_configs: [{ upgrade_type: 'CONNECT' }],
    route_config: { virtual_hosts: [{ name: 'any', domains: ['*'], routes: [{ match: { connect_matcher: {} }, route }] }] },
    http_filters: [typed('router', 'filters.http.router.v3.Router', {})],
  });
}

function hbonePeer(peer: HostPort, certificate: WorkloadCertificate): object {
  const outboundTls = typed('tls', 'transport_sockets.tls.v3.UpstreamTlsContext', {
    common_tls_context: tlsContext(certificate),
  });
  const options = {
    '@type': `${ENVOY}${HTTP_OPTIONS}`,
    explicit_http_config: { http2_protocol_options: { allow_connect: true } },
  };
  return {
    ...cluster('peer', peer),
    transport_socket: outboundTls,
    typed_extension_protocol_options: { [`envoy.${HTTP_OPTIONS}`]: options },
  };
}

function cluster(name: string, endpoint: HostPort): object {
  const endpoints = [{ lb_endpoints: [{ endpoint: { address: socketAddress(endpoint) } }] }];
  return { name, type: 'STATIC', connect_timeout: '5s', load_assignment: { cluster_name: name, endpoints } };
}

function tlsContext(certificate: WorkloadCertificate): object {
  const san = { san_type: 'URI', matcher: { prefix: 'spiffe://cluster.local/' } };
  return {
    alpn_protocols: ['h2'],
    tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
    tls_certificates: [
      { certificate_chain: { inline_string: certificate.chain }, private_key: { inline_string: certificate.key } },
    ],
    validation_context: { trusted_ca: { inline_string: certificate.roots }, match_typed_subject_alt_names: [san] },
  };
}

function socketAddress({ ip, port }: HostPort): object {
  return { socket_address: { address: ip, port_value: port } };
}

function typed(name: string, type: string, fields: object): object {
  return { name, typed_config: { '@type': `${EXTENSION}${type}`, ...fields } };
}
