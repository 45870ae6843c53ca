// References to nothing, each with object, field and reason.
import t from 'tap';
import { findReferenceFaults } from '../../../controlplane/translate/references.ts';
import type { HTTPRouteSpec } from '../../../shared/kube/gateway-api.ts';
import type { KubeObject } from '../../../shared/kube/object.ts';
import { aGateway, aNamespace, aPeer, aPod, aPolicy, aService, SETTINGS, storeOf } from './objects.ts';

const SHOP = aNamespace('shop');

function faults(...objects: KubeObject[]): string[] {
  return findReferenceFaults(storeOf(...objects), SETTINGS).map(({ object, field, reason }) => `${object}: ${field}: ${reason}`);
}

const route = (spec: HTTPRouteSpec): KubeObject => ({
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind: 'HTTPRoute',
  metadata: { name: 'r', namespace: 'shop' },
  spec,
});
const service = { group: '', kind: 'Service' };

t.test('what is there is no fault', async (t) => {
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'web', namespace: 'shop' } };
  const labels = { 'istio.io/use-waypoint': 'waypoint' };
  t.same(
    faults(
      aNamespace('shop', { labels }),
      account,
      aPod({ labels }, { serviceAccountName: 'web' }),
      aService({ labels }),
      aGateway(),
      route({
        parentRefs: [{ ...service, name: 'web', port: 80 }, { name: 'waypoint' }],
        rules: [{ backendRefs: [{ name: 'web', port: 80 }] }],
      }),
      aPolicy({
        targetRefs: [
          { group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'waypoint' },
          { group: '', kind: 'Service', name: 'web' },
        ],
      }),
      aPolicy(
        { targetRefs: [{ group: 'gateway.networking.k8s.io', kind: 'GatewayClass', name: 'istio-waypoint' }] },
        { namespace: 'culvert-system' },
      ),
    ),
    [],
  );
});

t.test('what is not there', async (t) => {
  const label = 'metadata.labels["istio.io/use-waypoint"]';
  const gone = 'Gateway shop/w does not exist; traffic goes past it';
  const labels = { 'istio.io/use-waypoint': 'w' };
  const elsewhere = { ...labels, 'istio.io/use-waypoint-namespace': 'infra' };
  const deployment = (spec: object): KubeObject => ({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'd', namespace: 'shop' },
    spec,
  });
  const cases: [KubeObject[], string][] = [
    [[aNamespace('shop', { labels })], `Namespace//shop: ${label}: ${gone}`],
    [[SHOP, aService({ labels })], `Service/shop/web: ${label}: ${gone}`],
    [[SHOP, aService({ labels: elsewhere })], `Service/shop/web: ${label}: ${gone.replace('shop', 'infra')}`],
    [[SHOP, aPod({ labels })], `Pod/shop/a: ${label}: ${gone}`],
    [[SHOP, deployment({ template: { metadata: { labels } } })], `Deployment/shop/d: spec.template.${label}: ${gone}`],
    [[aService()], 'Service/shop/web: metadata.namespace: Namespace shop does not exist'],
    [[SHOP, aPod({}, { serviceAccountName: 'x' })], 'Pod/shop/a: spec.serviceAccountName: ServiceAccount shop/x does not exist'],
    [
      [SHOP, deployment({ template: { spec: { serviceAccountName: 'x' } } })],
      'Deployment/shop/d: spec.template.spec.serviceAccountName: ServiceAccount shop/x does not exist',
    ],
    [
      [SHOP, aGateway({}, { gatewayClassName: 'x' })],
      'Gateway/shop/waypoint: spec.gatewayClassName: GatewayClass x does not exist',
    ],
    [[SHOP, route({ parentRefs: [{ name: 'x' }] })], 'HTTPRoute/shop/r: spec.parentRefs[0]: Gateway shop/x does not exist'],
    [
      [SHOP, route({ parentRefs: [{ ...service, name: 'x' }] })],
      'HTTPRoute/shop/r: spec.parentRefs[0]: Service shop/x does not exist',
    ],
    [
      [SHOP, aService(), route({ parentRefs: [{ ...service, name: 'web', port: 9 }] })],
      'HTTPRoute/shop/r: spec.parentRefs[0].port: Service shop/web has no port 9',
    ],
    [
      [SHOP, route({ rules: [{}, { backendRefs: [{ name: 'x', port: 1 }] }] })],
      'HTTPRoute/shop/r: spec.rules[1].backendRefs[0]: Service shop/x does not exist',
    ],
    [
      [SHOP, aService(), route({ rules: [{ backendRefs: [{ name: 'web', port: 9 }] }] })],
      'HTTPRoute/shop/r: spec.rules[0].backendRefs[0].port: Service shop/web has no port 9',
    ],
    [
      [SHOP, aService(), route({ rules: [{ backendRefs: [{ name: 'web' }] }] })],
      'HTTPRoute/shop/r: spec.rules[0].backendRefs[0].port: is required for a Service',
    ],
    [
      [SHOP, route({ rules: [{ backendRefs: [{ kind: 'Bucket', name: 'x' }] }] })],
      'HTTPRoute/shop/r: spec.rules[0].backendRefs[0].kind: Bucket cannot be referred to here',
    ],
    [
      [SHOP, aPolicy({ targetRefs: [{ kind: 'Service', name: 'x' }] })],
      'AuthorizationPolicy/shop/p: spec.targetRefs[0]: Service shop/x does not exist',
    ],
    [
      [SHOP, aPolicy({ targetRef: { kind: 'Service', name: 'x' } })],
      'AuthorizationPolicy/shop/p: spec.targetRef: Service shop/x does not exist',
    ],
    [
      [SHOP, aPolicy({ targetRefs: [{ group: 'gateway.networking.k8s.io', kind: 'GatewayClass', name: 'istio-waypoint' }] })],
      'AuthorizationPolicy/shop/p: spec.targetRefs[0]: a GatewayClass can be a target in culvert-system only',
    ],
    [
      [SHOP, aPeer({ selector: { matchLabels: { a: 'b' } } }, { namespace: 'culvert-system' })],
      'PeerAuthentication/culvert-system/p: spec.selector: has no effect in the root namespace: a policy there is for the whole mesh',
    ],
  ];
  for (const [objects, expected] of cases) t.same(faults(...objects), [expected]);
});

t.test('pods of a Deployment are not told one by one', async (t) => {
  const ownerReferences = [{ apiVersion: 'apps/v1', kind: 'Deployment', name: 'd', controller: true }];
  t.same(faults(SHOP, aPod({ ownerReferences, labels: { 'istio.io/use-waypoint': 'w' } }, { serviceAccountName: 'x' })), []);
});
