// Cluster → our cluster.
import {
  type Cluster as Message,
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
} from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { InternalUpstreamTransportSchema } from '#shared/gen/envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream_pb.ts';
import { UpstreamTlsContextSchema } from '#shared/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import { HttpProtocolOptionsSchema } from '#shared/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts';
import type { Cluster, LbPolicy, ServiceName } from '../cluster/cluster.ts';
import { readEndpoints } from './endpoints.ts';
import { milliseconds, only, Path, typedConfig, typeName, unpack } from './strict.ts';

const FIELDS = [
  'name',
  'type',
  'eds_cluster_config',
  'connect_timeout',
  'lb_policy',
  'original_dst_lb_config',
  'load_assignment',
  'transport_socket',
  'typed_extension_protocol_options',
  'metadata',
  'cleanup_interval',
];

const DISCOVERY: Partial<Record<Cluster_DiscoveryType, Cluster['discovery']>> = {
  [Cluster_DiscoveryType.EDS]: 'eds',
  [Cluster_DiscoveryType.STATIC]: 'static',
  [Cluster_DiscoveryType.ORIGINAL_DST]: 'original-dst',
};

const POLICIES: Partial<Record<Cluster_LbPolicy, LbPolicy>> = {
  [Cluster_LbPolicy.ROUND_ROBIN]: 'round-robin',
  [Cluster_LbPolicy.LEAST_REQUEST]: 'least-request',
  [Cluster_LbPolicy.RANDOM]: 'random',
  [Cluster_LbPolicy.CLUSTER_PROVIDED]: 'round-robin',
};

const DEFAULT_CONNECT_TIMEOUT_MS = 5000;
const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';

export function readCluster(message: Message): Cluster {
  const root = new Path();
  only(ClusterSchema, message, root, FIELDS);
  const { name, clusterDiscoveryType: type, edsClusterConfig, loadAssignment, connectTimeout, lbPolicy } = message;
  const discovery =
    DISCOVERY[type.case === 'type' ? type.value : Cluster_DiscoveryType.STATIC] ??
    root.at('type').refuse('only EDS, STATIC and ORIGINAL_DST are supported');
  const secure = readTransport(message, root.at('transport_socket'));
  const port = message.lbConfig.case === 'originalDstLbConfig' ? message.lbConfig.value.upstreamPortOverride : undefined;
  if (secure && port === undefined)
    root
      .at('original_dst_lb_config')
      .refuse('a cluster with TLS must be ORIGINAL_DST with upstream_port_override: it carries tunnels');
  return {
    name,
    discovery,
    edsName: edsClusterConfig?.serviceName || name,
    endpoints: loadAssignment ? readEndpoints(loadAssignment, root.at('load_assignment')) : [],
    lbPolicy: POLICIES[lbPolicy] ?? root.at('lb_policy').refuse('not supported'),
    connectTimeout: connectTimeout ? milliseconds(connectTimeout) : DEFAULT_CONNECT_TIMEOUT_MS,
    http2: readHttp2(message, root.at('typed_extension_protocol_options')),
    tunnel: secure && port !== undefined ? { port } : undefined,
    service: readService(message),
  };
}

/** True for mTLS. The certificate and roots are always our own; what the context says of them is checked to mean just that. */
function readTransport({ transportSocket }: Message, path: Path): boolean {
  if (!transportSocket) return false;
  const config = typedConfig(transportSocket, path);
  const at = path.at('typed_config');
  switch (typeName(config)) {
    case UpstreamTlsContextSchema.typeName: {
      const context = unpack(UpstreamTlsContextSchema, config, at);
      only(UpstreamTlsContextSchema, context, at, ['common_tls_context']);
      return true;
    }
    case InternalUpstreamTransportSchema.typeName: {
      const wrapper = unpack(InternalUpstreamTransportSchema, config, at);
      only(InternalUpstreamTransportSchema, wrapper, at, ['passthrough_metadata', 'transport_socket']);
      const inner = wrapper.transportSocket ? typeName(typedConfig(wrapper.transportSocket, at.at('transport_socket'))) : '';
      if (!inner.endsWith('.RawBuffer')) at.at('transport_socket').refuse(`${inner} is not supported here`);
      return false;
    }
    case 'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer':
      return false;
    default:
      return path.refuse(`${typeName(config)} is not supported`);
  }
}

function readHttp2({ typedExtensionProtocolOptions: options }: Message, path: Path): boolean {
  for (const key of Object.keys(options)) if (key !== HTTP_OPTIONS) path.refuse(`"${key}" is not supported`);
  const given = options[HTTP_OPTIONS];
  if (!given) return false;
  const message = unpack(HttpProtocolOptionsSchema, given, path.at(HTTP_OPTIONS));
  only(HttpProtocolOptionsSchema, message, path.at(HTTP_OPTIONS), ['explicit_http_config']);
  const protocol = message.upstreamProtocolOptions;
  return protocol.case === 'explicitHttpConfig' && protocol.value.protocolConfig.case === 'http2ProtocolOptions';
}

function readService({ metadata }: Message): ServiceName | undefined {
  const services = metadata?.filterMetadata['istio']?.['services'];
  const first = Array.isArray(services) ? services[0] : undefined;
  if (typeof first !== 'object' || first === null || Array.isArray(first)) return undefined;
  const text = (key: string): string => (typeof first[key] === 'string' ? first[key] : '');
  return { host: text('host'), name: text('name'), namespace: text('namespace') };
}
