// The bootstrap of a sidecar: an Envoy that gets everything else over aggregated xDS from the control plane.
import { PORT } from '#shared/ports.ts';

export interface BootstrapOptions {
  /** The control plane's address. */
  address: string;
}

/** For `envoy.json`; the node's id is given on the command line. */
export function envoyBootstrap({ address }: BootstrapOptions): object {
  const file = (name: string): object => ({ filename: `/etc/sidecar/${name}` });
  const source = { ads: {}, resource_api_version: 'V3', initial_fetch_timeout: '10s' };
  return {
    // The control plane makes mTLS of it: the sidecar has the secrets below.
    node: { metadata: { CULVERT_MTLS: 'true' } },
    admin: { address: socketAddress('127.0.0.1', PORT.admin) },
    dynamic_resources: {
      ads_config: {
        api_type: 'GRPC',
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds-grpc' } }],
      },
      cds_config: source,
      lds_config: source,
    },
    static_resources: {
      secrets: [
        { name: 'default', tls_certificate: { certificate_chain: file('cert.pem'), private_key: file('key.pem') } },
        { name: 'ROOTCA', validation_context: { trusted_ca: file('root.pem') } },
      ],
      clusters: [
        {
          name: 'xds-grpc',
          type: 'STATIC',
          connect_timeout: '5s',
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          load_assignment: {
            cluster_name: 'xds-grpc',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(address, PORT.controlPlanePlaintext) } }] }],
          },
        },
      ],
    },
  };
}

function socketAddress(address: string, port: number): object {
  return { socket_address: { address, port_value: port } };
}
