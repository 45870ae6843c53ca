// The bytes of workload discovery and of policies, written by hand: every field with its number in Istio's workload.proto and
// authorization.proto, none with its default (facts: control plane 1.3).
import { fromBinary } from '@bufbuild/protobuf';
import t from 'tap';
import { AuthorizationSchema } from '#shared/gen/istio/security/authorization_pb.ts';
import { ServiceSchema, WorkloadSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import { decodePolicy } from '../../../ztunnel/state/decode-policy.ts';
import { decodeAddress } from '../../../ztunnel/state/encoded.ts';
import { bytes, message, number, packed, text } from '../../harness/protobuf.ts';

/** GatewayAddress{hostname=1{namespace=1, hostname=2}, hbone_mtls_port=3} */
const byName = (field: number): Buffer => message(field, message(1, text(1, 'gw-ns'), text(2, 'gw-host')), number(3, 15_008));
/** GatewayAddress{address=2{network=1, address=2}, hbone_mtls_port=3} */
const byAddress = (field: number): Buffer =>
  message(field, message(2, text(1, 'gw-net'), bytes(2, [10, 0, 0, 9])), number(3, 15_009));

t.test('a workload', async (t) => {
  const fields = [
    text(1, 'web-1'),
    text(2, 'shop'),
    bytes(3, [10, 0, 0, 1]),
    bytes(3, [0xfd, ...Array<number>(14).fill(0), 1]),
    text(4, 'net-1'),
    number(5, 1),
    text(6, 'td'),
    text(7, 'web'),
    byName(8),
    text(9, 'node-1'),
    text(10, 'canonical'),
    text(11, 'v2'),
    number(12, 3),
    text(13, 'web-job'),
    number(14, 1),
    text(16, 'shop/policy'),
    number(17, 1),
    text(18, 'cluster-1'),
    byAddress(19),
    text(20, 'uid-1'),
    text(21, 'web.example'),
    message(22, text(1, 'shop/cart'), message(2, message(1, number(1, 80), number(2, 8080), number(3, 1)))),
    message(23, number(1, 1), number(2, 15_088)),
    message(24, text(1, 'region'), text(2, 'zone'), text(3, 'subzone')),
    number(25, 1),
    message(26, text(1, 'extension')),
    message(27, number(1, 300)),
  ];
  const decoded = decodeAddress(message(1, ...fields));
  t.strictSame(decoded, {
    kind: 'workload',
    workload: {
      uid: 'uid-1',
      name: 'web-1',
      namespace: 'shop',
      trustDomain: 'td',
      serviceAccount: 'web',
      identity: 'spiffe://td/ns/shop/sa/web',
      network: 'net-1',
      ips: ['10.0.0.1', 'fd00::1'],
      hostname: 'web.example',
      protocol: 'HBONE',
      networkMode: 'HostNetwork',
      waypoint: { kind: 'hostname', host: 'gw-ns/gw-host', port: 15_008 },
      networkGateway: { kind: 'address', network: 'gw-net', ip: '10.0.0.9', port: 15_009 },
      node: 'node-1',
      workloadName: 'web-job',
      workloadType: 'job',
      canonicalName: 'canonical',
      canonicalRevision: 'v2',
      nativeTunnel: true,
      applicationTunnel: { protocol: 'PROXY', port: 15_088 },
      services: new Map([['shop/cart', new Map([[80, 8080]])]]),
      authorizationPolicies: ['shop/policy'],
      status: 'Unhealthy',
      clusterId: 'cluster-1',
      locality: { region: 'region', zone: 'zone', subzone: 'subzone' },
      capacity: 300,
    },
  });
  const { services, extensions, $unknown } = fromBinary(WorkloadSchema, Buffer.concat(fields));
  t.equal(services['shop/cart']?.ports[0]?.appProtocol, 1);
  t.equal(extensions[0]?.name, 'extension');
  t.equal($unknown, undefined, 'no field is left over');
});

t.test('a service', async (t) => {
  const fields = [
    text(1, 'cart'),
    text(2, 'shop'),
    text(3, 'cart.shop.svc'),
    message(4, text(1, 'net-1'), bytes(2, [10, 96, 0, 1])),
    message(4, bytes(2, [10, 97, 0, 0]), number(3, 16)),
    message(5, number(1, 80), number(2, 8080), number(3, 2)),
    text(6, 'spiffe://td/ns/shop/sa/cart'),
    byName(7),
    message(8, packed(1, 6, 5, 4, 3, 2, 1), number(2, 2), number(3, 1)),
    number(9, 3),
    message(10, text(1, 'extension')),
    number(11, 1),
    number(12, 1),
    message(13, byAddress(1), number(2, 30)),
    number(14, 1),
  ];
  t.strictSame(decodeAddress(message(2, ...fields)), {
    kind: 'service',
    service: {
      key: 'shop/cart.shop.svc',
      name: 'cart',
      namespace: 'shop',
      hostname: 'cart.shop.svc',
      vips: ['net-1/10.96.0.1'],
      cidrVips: [{ network: '', ip: '10.97.0.0', length: 16 }],
      ports: new Map([[80, 8080]]),
      subjectAltNames: ['spiffe://td/ns/shop/sa/cart'],
      waypoint: { kind: 'hostname', host: 'gw-ns/gw-host', port: 15_008 },
      weightedWaypoints: [{ waypoint: { kind: 'address', network: 'gw-net', ip: '10.0.0.9', port: 15_009 }, weight: 30 }],
      loadBalancing: {
        mode: 'Failover',
        preferences: ['NETWORK', 'CLUSTER', 'NODE', 'SUBZONE', 'ZONE', 'REGION'],
        health: 'AllowAll',
      },
      ipFamilies: 'Dual',
      canonical: true,
      visibility: 'Namespace',
    },
  });
  const { ingressUseWaypoint, extensions, ports, $unknown } = fromBinary(ServiceSchema, Buffer.concat(fields));
  t.ok(ingressUseWaypoint);
  t.equal(extensions[0]?.name, 'extension');
  t.equal(ports[0]?.appProtocol, 2);
  t.equal($unknown, undefined, 'no field is left over');
});

t.test('the other values of enums', async (t) => {
  const workload = (...fields: Buffer[]) => {
    const decoded = decodeAddress(message(1, text(20, 'u'), ...fields));
    return decoded.kind === 'workload' ? decoded.workload : undefined;
  };
  t.strictSame(
    [0, 1, 2, 3].map((type) => workload(number(12, type))?.workloadType),
    ['deployment', 'cronjob', 'pod', 'job'],
  );
  const service = (...fields: Buffer[]) => {
    const decoded = decodeAddress(message(2, text(3, 'h'), ...fields));
    return decoded.kind === 'service' ? decoded.service : undefined;
  };
  t.strictSame(
    [0, 1, 2, 3].map((mode) => service(message(8, number(2, mode)))?.loadBalancing?.mode),
    ['Standard', 'Strict', 'Failover', 'Passthrough'],
  );
  t.strictSame(
    [0, 1, 2, 3].map((families) => service(number(9, families))?.ipFamilies),
    [undefined, 'IPv4', 'IPv6', 'Dual'],
  );
  t.throws(() => workload(number(5, 2)), /LEGACY_ISTIO_MTLS/u);
});

t.test('a policy', async (t) => {
  const block = (field: number, last: number): Buffer => message(field, bytes(1, [10, 0, 0, last]), number(2, 24));
  const account = (field: number, name: string): Buffer => message(field, text(1, 'ns'), text(2, name));
  const match = [
    message(1, text(1, 'exactly')),
    message(2, text(2, 'begins')),
    message(3, text(3, 'ends')),
    message(4, message(4)),
    block(5, 5),
    block(6, 6),
    block(7, 7),
    block(8, 8),
    packed(9, 80, 8080),
    packed(10, 443),
    account(11, 'in'),
    account(12, 'out'),
    message(13, text(1, 'extension')),
  ];
  const fields = [
    text(1, 'policy'),
    text(2, 'shop'),
    number(3, 2),
    number(4, 1),
    message(5, message(1, message(2, ...match))),
    number(6, 1),
    message(7, text(1, 'extension')),
  ];
  const wire = fromBinary(AuthorizationSchema, Buffer.concat(fields));
  const cidr = (last: number) => ({ bytes: Uint8Array.of(10, 0, 0, last), length: 24 });
  t.strictSame(decodePolicy('shop/policy', wire), {
    key: 'shop/policy',
    name: 'policy',
    namespace: 'shop',
    scope: 'WorkloadSelector',
    action: 'Deny',
    dryRun: true,
    rules: [
      [
        [
          {
            namespaces: [{ kind: 'exact', value: 'exactly' }],
            notNamespaces: [{ kind: 'prefix', value: 'begins' }],
            principals: [{ kind: 'suffix', value: 'ends' }],
            notPrincipals: [{ kind: 'presence' }],
            serviceAccounts: [{ namespace: 'ns', serviceAccount: 'in' }],
            notServiceAccounts: [{ namespace: 'ns', serviceAccount: 'out' }],
            sourceIps: [cidr(5)],
            notSourceIps: [cidr(6)],
            destinationIps: [cidr(7)],
            notDestinationIps: [cidr(8)],
            destinationPorts: [80, 8080],
            notDestinationPorts: [443],
          },
        ],
      ],
    ],
  });
  t.equal(wire.groups[0]?.rules[0]?.matches[0]?.extensions[0]?.name, 'extension');
  t.equal(wire.extensions[0]?.name, 'extension');
  t.equal(wire.$unknown, undefined, 'no field is left over');
  t.equal(wire.groups[0]?.rules[0]?.matches[0]?.$unknown, undefined);
  const scope = (value: number) => decodePolicy('p', fromBinary(AuthorizationSchema, number(3, value))).scope;
  t.strictSame([0, 1, 2].map(scope), ['Global', 'Namespace', 'WorkloadSelector']);
});
