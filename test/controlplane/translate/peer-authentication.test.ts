// PeerAuthentication → which policies a workload lists, and what they say.
import { toJson } from '@bufbuild/protobuf';
import t from 'tap';
import { PeerModes } from '../../../controlplane/translate/peer-authentication.ts';
import { AuthorizationSchema } from '../../../shared/gen/istio/security/authorization_pb.ts';
import type { MtlsMode, PeerAuthentication } from '../../../shared/kube/istio-api.ts';
import { aPeer, SETTINGS } from './objects.ts';

const STATIC = ['culvert-system/istio_converted_static_strict'];
const CONVERTED = ['shop/converted_peer_authentication_workload'];
const WEB = { app: 'web' };

const mesh = (mode: MtlsMode): PeerAuthentication => aPeer({ mtls: { mode } }, { name: 'mesh', namespace: 'culvert-system' });
const namespace = (mode: MtlsMode): PeerAuthentication => aPeer({ mtls: { mode } }, { name: 'namespace' });
const workload = (mode: MtlsMode | undefined, ports: Record<number, MtlsMode> = {}): PeerAuthentication =>
  aPeer(
    {
      selector: { matchLabels: WEB },
      ...(mode && { mtls: { mode } }),
      portLevelMtls: Object.fromEntries(Object.entries(ports).map(([port, portMode]) => [port, { mode: portMode }])),
    },
    { name: 'workload' },
  );

t.test('which policies a workload lists', async (t) => {
  const cases: [string, PeerAuthentication[], string[]][] = [
    ['nothing', [], []],
    ['mesh STRICT', [mesh('STRICT')], STATIC],
    ['mesh PERMISSIVE', [mesh('PERMISSIVE')], []],
    ['mesh UNSET', [mesh('UNSET')], []],
    ['namespace STRICT', [namespace('STRICT')], STATIC],
    ['namespace overrides mesh', [mesh('STRICT'), namespace('PERMISSIVE')], []],
    ['namespace DISABLE', [mesh('STRICT'), namespace('DISABLE')], []],
    ['namespace UNSET inherits', [mesh('STRICT'), namespace('UNSET')], STATIC],
    ['workload overrides namespace', [namespace('STRICT'), workload('PERMISSIVE')], []],
    ['workload STRICT', [workload('STRICT')], STATIC],
    ['workload UNSET inherits', [namespace('STRICT'), workload('UNSET')], STATIC],
    ['workload without a mode inherits', [mesh('STRICT'), workload(undefined)], STATIC],
    ['STRICT, open port', [workload('STRICT', { 80: 'PERMISSIVE' })], CONVERTED],
    ['STRICT, disabled port', [workload('STRICT', { 80: 'DISABLE' })], CONVERTED],
    ['STRICT, ports the same', [workload('STRICT', { 80: 'STRICT', 81: 'UNSET' })], STATIC],
    ['PERMISSIVE, strict port', [workload('PERMISSIVE', { 80: 'STRICT' })], CONVERTED],
    ['PERMISSIVE, ports the same', [workload('PERMISSIVE', { 80: 'DISABLE' })], []],
    ['inherited STRICT, open port', [mesh('STRICT'), workload('UNSET', { 80: 'DISABLE' })], CONVERTED],
    ['inherited STRICT, strict port', [mesh('STRICT'), workload('UNSET', { 80: 'STRICT' })], STATIC],
    ['inherited PERMISSIVE, strict port', [workload('UNSET', { 80: 'STRICT' })], CONVERTED],
    ['PERMISSIVE under STRICT mesh, strict port', [mesh('STRICT'), workload('PERMISSIVE', { 80: 'STRICT' })], CONVERTED],
  ];
  for (const [what, peers, expected] of cases) {
    const modes = new PeerModes(peers, SETTINGS);
    const listed = modes.policiesOf('shop', WEB);
    t.same(listed, expected, what);
    const sent = modes.authorizations().map((policy) => `${policy.namespace}/${policy.name}`);
    t.ok(
      listed.every((name) => sent.includes(name)),
      `${what}: what is listed is sent`,
    );
  }
});

t.test('others are not touched', async (t) => {
  const modes = new PeerModes([namespace('STRICT'), workload('PERMISSIVE', { 80: 'STRICT' })], SETTINGS);
  t.same(modes.policiesOf('other', WEB), []);
  t.same(modes.policiesOf('shop', { app: 'db' }), STATIC, 'not selected: the namespace');
});

t.test('the oldest counts', async (t) => {
  const older = aPeer({ mtls: { mode: 'STRICT' } }, { name: 'z', creationTimestamp: '2026-01-01T00:00:00Z' });
  const newer = aPeer({ mtls: { mode: 'PERMISSIVE' } }, { name: 'a', creationTimestamp: '2026-01-02T00:00:00Z' });
  t.same(new PeerModes([newer, older], SETTINGS).policiesOf('shop', WEB), STATIC);
});

t.test('selectors in the root namespace have no effect', async (t) => {
  const peer = aPeer({ selector: { matchLabels: WEB }, mtls: { mode: 'STRICT' } }, { namespace: 'culvert-system' });
  const modes = new PeerModes([peer], SETTINGS);
  t.same(modes.policiesOf('culvert-system', WEB), []);
  t.same(modes.policiesOf('shop', WEB), []);
});

t.test('what the policies say', async (t) => {
  const policies = (...peers: PeerAuthentication[]): unknown[] =>
    new PeerModes(peers, SETTINGS).authorizations().map((policy) => toJson(AuthorizationSchema, policy));
  const anonymous = { notPrincipals: [{ presence: {} }] };
  const head = { scope: 'WORKLOAD_SELECTOR', action: 'DENY' };
  t.same(policies(), [], 'none without a PeerAuthentication');
  const strict = {
    ...head,
    name: 'istio_converted_static_strict',
    namespace: 'culvert-system',
    groups: [{ rules: [{ matches: [anonymous] }] }],
  };
  t.same(policies(mesh('PERMISSIVE')), [strict], 'the static one with any');
  const converted = { ...head, name: 'converted_peer_authentication_workload', namespace: 'shop' };
  t.same(policies(workload('STRICT', { 80: 'PERMISSIVE', 81: 'DISABLE', 82: 'STRICT' }))[1], {
    ...converted,
    groups: [
      {
        rules: [
          { matches: [anonymous] },
          { matches: [{ notDestinationPorts: [80] }] },
          { matches: [{ notDestinationPorts: [81] }] },
        ],
      },
    ],
  });
  t.same(policies(workload('PERMISSIVE', { 80: 'STRICT', 81: 'STRICT', 82: 'DISABLE' }))[1], {
    ...converted,
    groups: [
      { rules: [{ matches: [{ ...anonymous, destinationPorts: [80] }] }] },
      { rules: [{ matches: [{ ...anonymous, destinationPorts: [81] }] }] },
    ],
  });
});
