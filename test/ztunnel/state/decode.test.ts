import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import t from 'tap';
import { ipToBytes } from '#shared/address.ts';
import { AuthorizationSchema } from '#shared/gen/istio/security/authorization_pb.ts';
import {
  AddressSchema,
  NetworkAddressSchema,
  ServiceSchema,
  TunnelProtocol,
  WorkloadSchema,
} from '#shared/gen/istio/workload/workload_pb.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { decodeService, decodeWorkload } from '../../../ztunnel/state/decode-address.ts';
import { decodePolicy } from '../../../ztunnel/state/decode-policy.ts';
import { MeshStore } from '../../../ztunnel/state/store.ts';
import { addressType, authorizationType } from '../../../ztunnel/state/xds-types.ts';

const bytes = (ip: string): Uint8Array<ArrayBuffer> => Uint8Array.from(ipToBytes(ip) ?? []);
const workload = (init: MessageInitShape<typeof WorkloadSchema>) => decodeWorkload(create(WorkloadSchema, { uid: 'u', ...init }));
const service = (init: MessageInitShape<typeof ServiceSchema>) =>
  decodeService(create(ServiceSchema, { namespace: 'shop', hostname: 'cart', ...init }));

t.test('what the protocol leaves out has its documented default', async (t) => {
  t.match(workload({ namespace: 'shop' }), {
    trustDomain: 'cluster.local',
    serviceAccount: 'default',
    identity: 'spiffe://cluster.local/ns/shop/sa/default',
    clusterId: 'Kubernetes',
    capacity: 1,
    protocol: 'TCP',
    status: 'Healthy',
  });
  t.equal(workload({ capacity: 0 }).capacity, 0, 'zero is not unset');
});

t.test('addresses, services, waypoints', async (t) => {
  const decoded = workload({
    addresses: [bytes('10.0.0.1'), bytes('::ffff:10.0.0.2'), bytes('fd00::1')],
    services: { 'shop/cart': { ports: [{ servicePort: 80, targetPort: 8080 }] } },
    waypoint: { destination: { case: 'hostname', value: { namespace: 'shop', hostname: 'wp' } }, hboneMtlsPort: 15_008 },
    applicationTunnel: { port: 0 },
  });
  t.strictSame(decoded.ips, ['10.0.0.1', '10.0.0.2', 'fd00::1']);
  t.strictSame(
    [...decoded.services].map(([key, ports]) => [key, [...ports]]),
    [['shop/cart', [[80, 8080]]]],
  );
  t.strictSame(decoded.waypoint, { kind: 'hostname', host: 'shop/wp', port: 15_008 });
  t.strictSame(decoded.applicationTunnel, { protocol: 'NONE' });
  const decodedService = service({
    addresses: [
      { network: 'n', address: bytes('10.96.0.1') },
      { address: bytes('10.96.0.2'), length: 32 },
      { address: bytes('10.97.0.0'), length: 16 },
    ],
    subjectAltNames: ['spiffe://td/ns/a/sa/b', 'not one'],
  });
  t.strictSame(decodedService.vips, ['n/10.96.0.1', '/10.96.0.2']);
  t.strictSame(decodedService.cidrVips, [{ network: '', ip: '10.97.0.0', length: 16 }]);
  t.strictSame(decodedService.subjectAltNames, ['spiffe://td/ns/a/sa/b']);
});

t.test('an address block as istiod writes it: its length is a plain number, not a message', async (t) => {
  const block = [0x12, 4, 198, 51, 100, 0, 0x18, 24];
  const all = [0x12, 4, 0, 0, 0, 0, 0x18, 0];
  const [cidr, everything] = [block, all].map((one) => fromBinary(NetworkAddressSchema, Uint8Array.from(one)));
  t.match(service({ addresses: [cidr ?? {}, everything ?? {}] }), {
    vips: [],
    cidrVips: [
      { ip: '198.51.100.0', length: 24 },
      { ip: '0.0.0.0', length: 0 },
    ],
  });
});

t.test('what cannot be right is refused with its field', async (t) => {
  t.throws(() => workload({ uid: '' }), { message: 'uid: is empty' });
  t.throws(() => workload({ addresses: [new Uint8Array(5)] }), { message: 'addresses[0]: 5 bytes are no IP address' });
  t.throws(() => workload({ tunnelProtocol: TunnelProtocol.LEGACY_ISTIO_MTLS }), { message: /^tunnel_protocol: / });
  t.throws(() => workload({ services: { nope: {} } }), { message: 'services["nope"]: is not NAMESPACE/HOSTNAME' });
  t.throws(() => service({ waypoint: {} }), { message: 'waypoint: names neither an address nor a hostname' });
  const policy = (address: Uint8Array<ArrayBuffer>, length: number) =>
    decodePolicy(
      'p',
      create(AuthorizationSchema, { groups: [{ rules: [{ matches: [{ sourceIps: [{ address, length }] }] }] }] }),
    );
  const field = 'groups[0].rules[0].matches[0].source_ips[0]';
  t.throws(() => policy(new Uint8Array(3), 8), { message: `${field}.address: 3 bytes are no IP address` });
  t.throws(() => policy(bytes('10.0.0.0'), 33), { message: `${field}.length: 33 is more than 32` });
});

t.test('resource types: bytes in, a changed store out', async (t) => {
  const store = new MeshStore('');
  const log = new Logging({ sink: { write: () => undefined } }).scope('xds');
  const addresses = addressType(store, log);
  t.equal(addresses.typeUrl, 'type.googleapis.com/istio.workload.Address');
  const wire = toBinary(AddressSchema, create(AddressSchema, { type: { case: 'workload', value: { uid: 'u', name: 'web' } } }));
  const change = addresses.decode(wire, 'u');
  addresses.apply({ set: [{ name: 'u', version: '1', resource: change }], removed: [] });
  t.equal(store.workloads.size, 1);
  addresses.apply({ set: [], removed: ['u', 'never/heard'] });
  t.equal(store.workloads.size, 0);
  t.throws(() => addresses.decode(new Uint8Array(), 'x'), { message: /neither a workload nor a service/u });

  const policies = authorizationType(store);
  t.equal(policies.typeUrl, 'type.googleapis.com/istio.security.Authorization');
  const policy = policies.decode(
    toBinary(AuthorizationSchema, create(AuthorizationSchema, { name: 'p', namespace: 'n' })),
    'n/p',
  );
  policies.apply({ set: [{ name: 'n/p', version: '1', resource: policy }], removed: [] });
  t.match(store.policies.get('n/p'), { name: 'p', scope: 'Global', action: 'Allow' });
});
