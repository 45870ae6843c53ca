// A real Envoy as one end of an HBONE tunnel: plain TCP in and HBONE out (as a ztunnel's outbound side), or the reverse.
import type { HostPort } from '#shared/address.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { ENVOY, type JsonEnvoy, jsonEnvoy, socketAddress, typed } from './envoy-json.ts';

const HTTP_OPTIONS = 'extensions.upstreams.http.v3.HttpProtocolOptions';

export type EnvoyRole =
  /** Plain TCP in, a CONNECT to `authority` at `peer` out. */
  | { kind: 'client'; peer: HostPort; authority: string }
  /** HBONE in, plain TCP to `upstream` out. */
  | { kind: 'server'; upstream: HostPort };

/** See jsonEnvoy(). */
export function hboneEnvoy(role: EnvoyRole, certificate: WorkloadCertificate): Promise<JsonEnvoy> {
  return jsonEnvoy((listen) => bootstrap(role, listen, certificate));
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
