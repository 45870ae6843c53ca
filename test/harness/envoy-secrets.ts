// The secrets `default` and `ROOTCA` for a real Envoy, as static resources of its bootstrap.
import { create } from '@bufbuild/protobuf';
import { type Secret, SecretSchema } from '#shared/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';

export function envoySecrets(certificate: WorkloadCertificate): Secret[] {
  return [
    create(SecretSchema, {
      name: 'default',
      type: {
        case: 'tlsCertificate',
        value: {
          certificateChain: { specifier: { case: 'inlineString', value: certificate.chain } },
          privateKey: { specifier: { case: 'inlineString', value: certificate.key } },
        },
      },
    }),
    create(SecretSchema, {
      name: 'ROOTCA',
      type: {
        case: 'validationContext',
        value: { trustedCa: { specifier: { case: 'inlineString', value: certificate.roots } } },
      },
    }),
  ];
}
