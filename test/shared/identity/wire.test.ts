// The bytes of the CA's protocol, written by hand: field numbers of Istio's ca.proto (facts: ztunnel 7).
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import t from 'tap';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '#shared/gen/istio/ca/ca_pb.ts';
import { message, number, text } from '../../harness/protobuf.ts';

t.test('a request and an answer of the CA', async (t) => {
  const metadata = { ImpersonatedIdentity: 'spiffe://td/ns/shop/sa/web' };
  const request = create(IstioCertificateRequestSchema, { csr: 'CSR', validityDuration: 86_400n, metadata });
  t.strictSame(
    Buffer.from(toBinary(IstioCertificateRequestSchema, request)),
    Buffer.concat([
      text(1, 'CSR'),
      number(3, 86_400),
      // Struct{fields=1: key=1, value=2{string_value=3}}
      message(4, message(1, text(1, 'ImpersonatedIdentity'), message(2, text(3, 'spiffe://td/ns/shop/sa/web')))),
    ]),
  );
  const answer = fromBinary(IstioCertificateResponseSchema, Buffer.concat([text(1, 'leaf'), text(1, 'root')]));
  t.strictSame(answer.certChain, ['leaf', 'root']);
});
