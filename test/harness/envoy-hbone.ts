// A real Envoy as one end of an HBONE tunnel: plain TCP in and HBONE out (as a ztunnel's outbound side), or the reverse.
import type { HostPort } from '#shared/address.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { ENVOY, type EnvoyPlace, type JsonEnvoy, jsonEnvoy, socketAddress, typed } from './envoy-json.ts';

const HTTP_OPTIONS = 'extensions.upstreams.http.v3.HttpProtocolOptions';

export type EnvoyRole =
  /** Plain TCP in, a CONNECT to an authority at `peer` out: the first one on the port it listens on, the others on the next ports. */
  | { kind: 'client'; peer: HostPort; authorities: readonly string[] }
  /** HBONE in, plain TCP out, to the address that is listed for the authority; '*' for any. */
  | { kind: 'server'; upstreams: Readonly<Record<string, HostPort>> };

export interface EnvoyOptions {
  /** How the peer's SPIFFE ID must begin; by default anybody of the trust domain will do. */
  readonly peers?: string;
  /** The port of its admin page, at the address that it listens on. */
  readonly adminPort?: number;
}

/** See jsonEnvoy(). A line `FLAGS|TLS FAILURE OF THE PEER|TLS FAILURE OF THE CLIENT` goes to its log at the end of each connection. */
export function hboneEnvoy(
  role: EnvoyRole,
  certificate: WorkloadCertificate,
  place?: EnvoyPlace,
  options: EnvoyOptions = {},
): Promise<JsonEnvoy> {
  const admin = (ip: string): object =>
    options.adminPort === undefined ? {} : { admin: { address: socketAddress({ ip, port: options.adminPort }) } };
  const tls = tlsContext(certificate, options.peers ?? 'spiffe://cluster.local/');
  return jsonEnvoy((listen) => ({ ...bootstrap(role, listen, tls), ...admin(listen.ip) }), place);
}

function bootstrap(role: EnvoyRole, { ip, port }: HostPort, tls: object): object {
  const listener = (at: number, chain: object): object => ({
    name: `in-${at}`,
    address: socketAddress({ ip, port: port + at }),
    filter_chains: [chain],
    access_log: [accessLog()],
  });
  if (role.kind === 'client')
    return {
      static_resources: {
        listeners: role.authorities.map((authority, i) => listener(i, { filters: [tunnelOut(authority)] })),
        clusters: [hbonePeer(role.peer, tls)],
      },
    };
  const inboundTls = typed('tls', 'transport_sockets.tls.v3.DownstreamTlsContext', {
    common_tls_context: tls,
    require_client_certificate: true,
  });
  const filters = [connectIn(Object.keys(role.upstreams))];
  const clusters = Object.entries(role.upstreams).map(([authority, address]) => cluster(authority, address));
  return { static_resources: { listeners: [listener(0, { filters, transport_socket: inboundTls })], clusters } };
}

function tunnelOut(authority: string): object {
  return typed('tcp_proxy', 'filters.network.tcp_proxy.v3.TcpProxy', {
    stat_prefix: 'out',
    cluster: 'peer',
    access_log: [accessLog()],
    tunneling_config: {
      hostname: authority,
      headers_to_add: [{ header: { key: 'baggage', value: 'k8s.namespace.name=envoy' } }],
    },
  });
}

function connectIn(authorities: readonly string[]): object {
  const toApp = (name: string): object => ({
    name,
    domains: [name],
    routes: [
      {
        match: { connect_matcher: {} },
        route: { cluster: name, timeout: '0s', upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }] },
      },
    ],
  });
  return typed('http', 'filters.network.http_connection_manager.v3.HttpConnectionManager', {
    stat_prefix: 'in',
    stream_idle_timeout: '0s',
    http2_protocol_options: { allow_connect: true },
    upgrade_configs: [{ upgrade_type: 'CONNECT' }],
    route_config: { virtual_hosts: authorities.map(toApp) },
    http_filters: [typed('router', 'filters.http.router.v3.Router', {})],
  });
}

function hbonePeer(peer: HostPort, tls: object): object {
  const outboundTls = typed('tls', 'transport_sockets.tls.v3.UpstreamTlsContext', {
    common_tls_context: tls,
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

function accessLog(): object {
  const text = '%RESPONSE_FLAGS%|%UPSTREAM_TRANSPORT_FAILURE_REASON%|%DOWNSTREAM_TRANSPORT_FAILURE_REASON%\n';
  return typed('stdout', 'access_loggers.stream.v3.StdoutAccessLog', {
    log_format: { text_format_source: { inline_string: text } },
  });
}

function tlsContext(certificate: WorkloadCertificate, peers: string): object {
  const san = { san_type: 'URI', matcher: { prefix: peers } };
  return {
    alpn_protocols: ['h2'],
    tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
    tls_certificates: [
      { certificate_chain: { inline_string: certificate.chain }, private_key: { inline_string: certificate.key } },
    ],
    validation_context: { trusted_ca: { inline_string: certificate.roots }, match_typed_subject_alt_names: [san] },
  };
}
