import t from 'tap';
import { MeshStore } from '../../../ztunnel/state/store.ts';
import { dumpState } from '../../../ztunnel/state/dump.ts';
import { aService, aStore, aWorkload } from '../../fixtures/mesh.ts';

t.test('endpoints may come before their service, and go with their workload', async (t) => {
  const cart = aWorkload('cart', { services: { cart: { 80: 8080 } } });
  const service = aService('cart');
  const store = aStore(cart);
  t.strictSame(Object.keys(dumpState(store).stagedServices), ['shop/cart.shop.svc.cluster.local']);
  store.apply([{ kind: 'service', service }]);
  t.strictSame(dumpState(store).stagedServices, {});
  t.strictSame([...store.services.endpoints(service.key).keys()], [cart.uid]);
  store.apply([{ kind: 'workload', workload: aWorkload('cart') }]);
  t.equal(store.services.endpoints(service.key).size, 0, 'a workload that left the service');
  store.apply([{ kind: 'workload', workload: cart }]);
  store.apply([{ kind: 'remove-address', name: cart.uid }]);
  t.equal(store.services.endpoints(service.key).size, 0);
  t.equal(store.workloads.byAddress('', '10.0.0.1'), undefined);
  store.apply([{ kind: 'remove-address', name: service.key }]);
  t.equal(store.services.size, 0);
});

t.test('several workloads on one address: captured pods win, then pods, then the last', async (t) => {
  const pod = aWorkload('pod', { protocol: 'TCP' });
  const captured = aWorkload('captured');
  const entry = aWorkload('entry', { uid: 'cluster/networking.istio.io/WorkloadEntry/shop/entry' });
  const at = (...workloads: (typeof pod)[]) => aStore(...workloads).workloads.byAddress('', '10.0.0.1')?.name;
  t.equal(at(captured, pod, entry), 'captured');
  t.equal(at(pod, entry), 'pod');
  t.equal(at(pod, aWorkload('later', { protocol: 'TCP' })), 'later');
  const store = aStore(captured, pod);
  store.apply([{ kind: 'remove-address', name: captured.uid }]);
  t.equal(store.workloads.byAddress('', '10.0.0.1')?.name, 'pod');
});

t.test('the pods of this node, and the identities that they need', async (t) => {
  const store = aStore(
    aWorkload('a', { serviceAccount: 'one' }),
    aWorkload('b', { serviceAccount: 'one', ips: ['10.0.0.2'] }),
    aWorkload('c', { protocol: 'TCP', ips: ['10.0.0.3'] }),
    aWorkload('d', { node: 'node-2', ips: ['10.0.0.4'] }),
  );
  t.strictSame([...store.workloads.localIdentities()], ['spiffe://cluster.local/ns/shop/sa/one']);
  t.equal(store.workloads.localPod({ name: 'd', namespace: 'shop', serviceAccount: 'd' }), undefined);
  t.equal(store.workloads.localPod({ name: 'a', namespace: 'shop', serviceAccount: 'one' })?.name, 'a');
});

t.test('the namesake of a pod in another cluster, on a node of the same name, is not it', async (t) => {
  const who = { name: 'web', namespace: 'shop', serviceAccount: 'web' };
  const here = aWorkload('web', { clusterId: 'here' });
  const far = aWorkload('web', { clusterId: 'far', uid: 'far//Pod/shop/web', ips: ['10.9.0.1'], trustDomain: 'far.local' });
  for (const order of [
    [here, far],
    [far, here],
  ]) {
    const store = new MeshStore('node-1', { cluster: 'here' });
    store.apply(order.map((workload) => ({ kind: 'workload', workload })));
    t.equal(store.workloads.localPod(who), here);
    t.strictSame([...store.workloads.localIdentities()], [here.identity]);
    store.apply([{ kind: 'remove-address', name: here.uid }]);
    t.equal(store.workloads.localPod(who), undefined, 'nor does it take its place');
  }
});

t.test('waiting for a pod’s own workload', async (t) => {
  const store = new MeshStore('node-1');
  const who = { name: 'web', namespace: 'shop', serviceAccount: 'web' };
  const waiting = store.waitForLocal(who, AbortSignal.timeout(1000));
  const patience = new AbortController();
  const givingUp = store.waitForLocal({ ...who, name: 'other' }, patience.signal);
  store.apply([{ kind: 'workload', workload: aWorkload('web') }]);
  t.equal((await waiting)?.name, 'web');
  patience.abort();
  t.equal(await givingUp, undefined);
});
