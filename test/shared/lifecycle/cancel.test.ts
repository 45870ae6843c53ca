import { once } from 'node:events';
import t from 'tap';
import { nextId } from '#shared/collections/id-table.ts';
import { MeshError } from '#shared/errors.ts';
import { CancelScope } from '#shared/lifecycle/cancel.ts';

const over = new MeshError('draining', 'over');

t.test('a scope ends once, and tells each listener once', async (t) => {
  const scope = new CancelScope();
  const heard: MeshError[] = [];
  const listener = { id: nextId(), onCancel: (reason: MeshError) => void heard.push(reason) };
  scope.add(listener);
  scope.add(listener);
  t.equal(scope.reason, undefined);
  scope.cancel(over);
  scope.cancel(new MeshError('reset', 'later'));
  t.strictSame(heard, [over]);
  t.equal(scope.reason, over);
});

t.test('who leaves while others are told is not told', async (t) => {
  const scope = new CancelScope();
  const heard: string[] = [];
  const second = { id: nextId(), onCancel: () => void heard.push('second') };
  scope.add({
    id: nextId(),
    onCancel: () => {
      heard.push('first');
      scope.delete(second);
    },
  });
  scope.add(second);
  scope.cancel(over);
  t.strictSame(heard, ['first']);
});

t.test('a scope ends with any of its parents, and not after it was disposed', async (t) => {
  const [pod, policy] = [new CancelScope(), new CancelScope()];
  const living = new CancelScope(pod, policy);
  const gone = new CancelScope(pod, policy);
  gone[Symbol.dispose]();
  policy.cancel(over);
  t.equal(living.reason, over);
  t.equal(gone.reason, undefined);
  t.equal(pod.reason, undefined);
  t.equal(new CancelScope(pod, policy).reason, over, 'one that begins after the end has ended');
});

t.test('what one listener throws keeps no other from its end', async (t) => {
  const scope = new CancelScope();
  const heard: string[] = [];
  const faulty = {
    id: nextId(),
    onCancel() {
      throw new Error('a fault of ours');
    },
  };
  scope.add(faulty);
  scope.add({ ...faulty });
  scope.add({ id: nextId(), onCancel: () => void heard.push('third') });
  const warned = once(process, 'warning');
  scope.cancel(over);
  t.strictSame(heard, ['third']);
  t.match(await warned, [{ message: 'a fault of ours' }]);
});
