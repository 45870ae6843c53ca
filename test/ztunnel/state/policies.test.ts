import t from 'tap';
import type { Policy, Workload } from '../../../ztunnel/state/model.ts';
import type { MeshStore } from '../../../ztunnel/state/store.ts';
import { aMatch, aPolicy, aStore, aWorkload, changeOf } from '../../fixtures/mesh.ts';

const anything = { matches: [aMatch({ destinationPorts: [8080] })] };
const context = {
  sourceIp: new Uint8Array(4),
  destinationIp: new Uint8Array(4),
  destinationPort: 8080,
  principal: undefined,
  alsoKnownAs: undefined,
  namespace: '',
  serviceAccount: undefined,
};

function namesFor({ policies }: MeshStore, workload: Workload): string[] {
  const { groups } = policies.forWorkload(workload);
  return groups.flatMap(({ allow }) => Array.from(allow.all(context), ({ name }: Policy) => name)).sort();
}

t.test('the policies of a workload: global, of its namespace, and selected by name', async (t) => {
  const store = aStore(
    aPolicy('root', { namespace: 'istio-system', scope: 'Global', ...anything }),
    aPolicy('mine', anything),
    aPolicy('theirs', { namespace: 'other', ...anything }),
    aPolicy('nobodys', { namespace: '', ...anything }),
    aPolicy('picked', { scope: 'WorkloadSelector', ...anything }),
    aPolicy('unpicked', { scope: 'WorkloadSelector', ...anything }),
  );
  const workload = aWorkload('cart', { authorizationPolicies: ['shop/picked', 'shop/gone', 'shop/mine'] });
  t.strictSame(namesFor(store, workload), ['mine', 'picked', 'root']);
  t.strictSame(store.policies.forWorkload(workload).unknown, ['shop/gone']);
  store.apply([{ kind: 'remove-policy', key: 'shop/mine' }]);
  t.strictSame(namesFor(store, workload), ['picked', 'root']);
});

t.test('what is in force is another object when, and only when, it changed', async (t) => {
  const store = aStore(
    aPolicy('mine'),
    aPolicy('picked', { scope: 'WorkloadSelector' }),
    aPolicy('theirs', { namespace: 'other' }),
  );
  const plain = aWorkload('web');
  const picky = aWorkload('cart', { authorizationPolicies: ['shop/picked', 'shop/late'] });
  let before = [plain, picky].map((workload) => store.policies.forWorkload(workload));
  const changed = (...policies: Policy[]): boolean[] => {
    store.apply(policies.map(changeOf));
    const now = [plain, picky].map((workload) => store.policies.forWorkload(workload));
    const different = now.map((view, index) => view !== before[index]);
    before = now;
    return different;
  };
  t.strictSame(changed(), [false, false]);
  t.strictSame(changed(aPolicy('theirs', { namespace: 'other', action: 'Deny' })), [false, false], 'another namespace');
  t.strictSame(changed(aPolicy('unpicked', { scope: 'WorkloadSelector' })), [false, false], 'nobody lists it');
  t.strictSame(changed(aPolicy('picked', { scope: 'WorkloadSelector', action: 'Deny' })), [false, true], 'one lists it');
  t.strictSame(changed(aPolicy('late', { scope: 'WorkloadSelector' })), [false, true], 'one waits for it');
  t.strictSame(changed(aPolicy('mine', { action: 'Deny' })), [true, true], 'their namespace');
  t.strictSame(changed(aPolicy('root', { namespace: 'istio-system', scope: 'Global' })), [true, true], 'everybody');
  t.strictSame(changed(aPolicy('mine', { scope: 'WorkloadSelector' })), [true, true], 'it is no longer of the namespace');
  store.apply([{ kind: 'remove-policy', key: 'istio-system/root' }]);
  t.strictSame(changed(), [true, true], 'one is gone');
});
