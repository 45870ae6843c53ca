import { test } from 'tap';
import type { Pod, Service } from '#shared/kube/kinds.ts';
import type { KubeObject } from '#shared/kube/object.ts';
import { objectKey } from '#shared/kube/object.ts';
import { ObjectStore } from '../../../controlplane/store/store.ts';
import { boundWaypoint } from '../../../controlplane/translate/waypoint-binding.ts';

const pod = (name: string, app: string, account: string, labels: Record<string, string> = {}): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'shop', labels: { app, ...labels } },
  spec: { serviceAccountName: account, containers: [] },
});

const service = (name: string, app: string | undefined, labels: Record<string, string> = {}): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop', labels },
  spec: app === undefined ? {} : { selector: { app } },
});

const gateway = (name: string, account?: string): KubeObject => ({
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind: 'Gateway',
  metadata: {
    name,
    namespace: 'shop',
    ...(account !== undefined && { annotations: { 'culvert.dev/for-service-account': account } }),
  },
  spec: { gatewayClassName: 'istio-waypoint' },
});

function store(...objects: KubeObject[]): ObjectStore {
  const made = new ObjectStore();
  made.apply(objects.map((object) => ({ type: 'set', key: objectKey(object), object })));
  return made;
}

const namespace = (labels: Record<string, string>): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name: 'shop', namespace: '', labels },
});

test('a waypoint for a service account binds its pods and the services of its pods', async (t) => {
  const objects = store(
    gateway('wp', 'catalog'),
    gateway('plain'),
    pod('a', 'catalog', 'catalog'),
    pod('b', 'mixed', 'catalog'),
    pod('c', 'mixed', 'cart'),
  );
  t.same(boundWaypoint(pod('a', 'catalog', 'catalog'), objects), { namespace: 'shop', name: 'wp' });
  t.equal(boundWaypoint(pod('c', 'cart', 'cart'), objects), undefined);
  t.same(boundWaypoint(service('catalog', 'catalog'), objects), { namespace: 'shop', name: 'wp' });
  t.equal(boundWaypoint(service('mixed', 'mixed'), objects), undefined, 'its pods run as different accounts');
  t.equal(boundWaypoint(service('none', 'none'), objects), undefined, 'no pods');
  t.equal(boundWaypoint(service('external', undefined), objects), undefined, 'no selector');
});

test('precedence: own label, service account, namespace', async (t) => {
  const objects = store(
    namespace({ 'istio.io/use-waypoint': 'everyone' }),
    gateway('wp', 'catalog'),
    gateway('another', 'catalog'),
    pod('a', 'catalog', 'catalog'),
  );
  t.same(boundWaypoint(service('catalog', 'catalog'), objects)?.name, 'another', 'of two the first by name');
  t.same(boundWaypoint(service('catalog', 'catalog', { 'istio.io/use-waypoint': 'mine' }), objects)?.name, 'mine');
  t.equal(boundWaypoint(service('catalog', 'catalog', { 'istio.io/use-waypoint': 'none' }), objects), undefined);
  t.same(boundWaypoint(service('other', 'other'), objects)?.name, 'everyone');
});
