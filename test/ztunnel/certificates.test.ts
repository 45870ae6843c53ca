import t from 'tap';
import { LocalIdentities } from '../../ztunnel/certificates.ts';
import { aStore, aWorkload, changeOf } from '../fixtures/mesh.ts';

t.test('a certificate for every identity of this node, none for the others, and goodbye to those that left', async (t) => {
  const calls: string[] = [];
  const name = (identity: string) => identity.slice(identity.lastIndexOf('/') + 1);
  const cache = {
    prefetch: (id: string) => void calls.push(`+${name(id)}`),
    forget: (id: string) => void calls.push(`-${name(id)}`),
  };
  const one = aWorkload('a-1', { serviceAccount: 'a' });
  const store = aStore(one, aWorkload('far', { node: 'node-2', ips: ['10.0.0.3'] }));
  const follow = new LocalIdentities(store, cache);
  t.strictSame(calls.splice(0), ['+a']);
  store.apply([
    changeOf(aWorkload('a-2', { serviceAccount: 'a', ips: ['10.0.0.4'] })),
    changeOf(aWorkload('b', { ips: ['10.0.0.5'] })),
  ]);
  t.strictSame(calls.splice(0), ['+b']);
  store.apply([{ kind: 'remove-address', name: one.uid }]);
  t.strictSame(calls, [], 'another pod still has it');
  store.apply([{ kind: 'remove-address', name: aWorkload('a-2').uid }]);
  t.strictSame(calls.splice(0), ['-a']);
  follow[Symbol.dispose]();
  store.apply([changeOf(one)]);
  t.strictSame(calls, []);
});

t.test('a pod that is served has its certificate asked for before the mesh says that it is captured', async (t) => {
  const calls: string[] = [];
  const cache = { prefetch: (id: string) => void calls.push(`+${id}`), forget: (id: string) => void calls.push(`-${id}`) };
  const plain = aWorkload('a', { protocol: 'TCP' });
  const store = aStore(plain);
  using local = new LocalIdentities(store, cache);
  t.strictSame(calls, []);
  const served = local.serve({ name: 'a', namespace: 'shop', serviceAccount: 'a' });
  t.strictSame(calls.splice(0), [`+${plain.identity}`]);
  const later = local.serve({ name: 'b', namespace: 'shop', serviceAccount: 'b' });
  t.strictSame(calls, [], 'who is not known yet');
  const b = aWorkload('b', { protocol: 'TCP', ips: ['10.0.0.9'] });
  store.apply([changeOf(b)]);
  t.strictSame(calls.splice(0), [`+${b.identity}`]);
  store.apply([changeOf(aWorkload('a'))]);
  t.strictSame(calls, [], 'captured: the same identity');
  served[Symbol.dispose]();
  t.strictSame(calls, [], 'still captured');
  store.apply([changeOf(plain)]);
  t.strictSame(calls.splice(0), [`-${plain.identity}`]);
  later[Symbol.dispose]();
  t.strictSame(calls.splice(0), [`-${b.identity}`]);
});
