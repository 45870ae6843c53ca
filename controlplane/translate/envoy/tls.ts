// The mTLS of tunnels: TLS 1.3, `h2`, the proxy's own certificate and roots under the names `default` and `ROOTCA`. The names refer
// to secrets of the proxy itself (its certificate never passes through the control plane), so an Envoy finds them in its bootstrap
// or in files, and our waypoint in its identity cache.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { TransportSocket } from '#shared/gen/envoy/config/core/v3/base_pb.ts';
import {
  SubjectAltNameMatcher_SanType,
  TlsParameters_TlsProtocol,
} from '#shared/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts';
import {
  type CommonTlsContextSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '#shared/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import { transportSocket } from './messages.ts';

export const OWN_CERTIFICATE = 'default';
export const TRUSTED_ROOTS = 'ROOTCA';

/** Server side of a tunnel: any identity of the trust domains, no client without a certificate. */
export function hboneServer(trustDomains: readonly string[]): TransportSocket {
  return transportSocket('envoy.transport_sockets.tls', DownstreamTlsContextSchema, {
    commonTlsContext: hboneContext(trustDomains),
    requireClientCertificate: true,
  });
}

/** Client side of a tunnel. */
export function hboneClient(trustDomains: readonly string[]): TransportSocket {
  return transportSocket('envoy.transport_sockets.tls', UpstreamTlsContextSchema, {
    commonTlsContext: hboneContext(trustDomains),
  });
}

function hboneContext(trustDomains: readonly string[]): MessageInitShape<typeof CommonTlsContextSchema> {
  return commonContext(trustDomains, ['h2'], TlsParameters_TlsProtocol.TLSv1_3);
}

/** Own certificate and roots; peers must hold an identity of one of the trust domains. */
export function commonContext(
  trustDomains: readonly string[],
  alpn: string[],
  minimum: TlsParameters_TlsProtocol,
): MessageInitShape<typeof CommonTlsContextSchema> {
  return {
    tlsParams: { tlsMinimumProtocolVersion: minimum, tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3 },
    alpnProtocols: alpn,
    tlsCertificateSdsSecretConfigs: [{ name: OWN_CERTIFICATE }],
    validationContextType: {
      case: 'combinedValidationContext',
      value: {
        defaultValidationContext: {
          matchTypedSubjectAltNames: trustDomains.map((domain) => ({
            sanType: SubjectAltNameMatcher_SanType.URI,
            matcher: { matchPattern: { case: 'prefix', value: `spiffe://${domain}/` } },
          })),
        },
        validationContextSdsSecretConfig: { name: TRUSTED_ROOTS },
      },
    },
  };
}
