import t from 'tap';
import { followLocalIdentities } from '../../ztunnel/certificates.ts';
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
  const follow = followLocalIdentities(store, cache);
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
