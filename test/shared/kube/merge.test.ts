// Merging, selecting, and what an informer tells.
import t from 'tap';
import { Informer } from '../../../shared/kube/informer.ts';
import { mergePatch } from '../../../shared/kube/merge.ts';
import type { ObjectEvent, ObjectFault, ObjectSource } from '../../../shared/kube/object.ts';
import { matchesLabels, matchesSelector } from '../../../shared/kube/selectors.ts';

t.test('merge patch', async (t) => {
  const target = { a: { b: 1, c: 2 }, list: [1, 2] };
  t.same(mergePatch(target, { a: { b: null, d: 3 }, list: [3], e: { f: null, g: 1 } }), {
    a: { c: 2, d: 3 },
    list: [3],
    e: { g: 1 },
  });
  t.same(target, { a: { b: 1, c: 2 }, list: [1, 2] }, 'the target stays');
  t.same(mergePatch(undefined, { a: 1 }), { a: 1 });
  t.same(mergePatch({ a: 1 }, [1]), [1]);
  const merged = mergePatch({}, JSON.parse('{"__proto__": {"polluted": true}}'));
  t.equal((merged as { polluted?: boolean }).polluted, undefined, 'no key reaches a prototype');
  t.equal(({} as { polluted?: boolean }).polluted, undefined);
});

t.test('selectors', async (t) => {
  const labels = { app: 'web', tier: 'front' };
  t.ok(matchesLabels({}, labels));
  t.ok(matchesLabels({ app: 'web' }, labels));
  t.notOk(matchesLabels({ app: 'web', x: 'y' }, labels));
  t.notOk(matchesLabels({ app: 'web' }, undefined));
  t.notOk(matchesSelector(undefined, labels));
  t.ok(matchesSelector({}, undefined));
  const cases: [string, string, string[] | undefined, boolean][] = [
    ['app', 'In', ['web', 'db'], true],
    ['app', 'In', ['db'], false],
    ['none', 'In', ['db'], false],
    ['app', 'NotIn', ['db'], true],
    ['app', 'NotIn', ['web'], false],
    ['none', 'NotIn', ['web'], true],
    ['app', 'Exists', undefined, true],
    ['none', 'Exists', undefined, false],
    ['none', 'DoesNotExist', undefined, true],
    ['app', 'DoesNotExist', undefined, false],
    ['constructor', 'Exists', undefined, false],
    ['app', 'Like', ['web'], false],
  ];
  for (const [key, operator, values, expected] of cases)
    t.equal(
      matchesSelector({ matchExpressions: [{ key, operator, ...(values && { values }) }] }, labels),
      expected,
      `${key} ${operator}`,
    );
});

t.test('informer', async (t) => {
  let emit: (events: ObjectEvent[]) => void = () => undefined;
  let fault: (faults: readonly ObjectFault[]) => void = () => undefined;
  const source: ObjectSource = {
    watch: async (onBatch, onFaults) => {
      emit = onBatch;
      fault = onFaults;
      emit([]);
    },
    locate: () => '',
    close: () => undefined,
  };
  const informer = new Informer(source);
  const heard: string[][] = [];
  const stop = informer.onChange((events) => heard.push(events.map(({ key }) => key)));
  await informer.start();
  const pod = (name: string, namespace: string): ObjectEvent => ({
    type: 'set',
    key: `Pod/${namespace}/${name}`,
    object: { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace } },
  });
  emit([pod('a', 'x'), pod('b', 'y')]);
  t.equal(informer.get('Pod', 'x', 'a')?.metadata.name, 'a');
  t.equal(informer.get('Service', 'x', 'a'), undefined);
  t.equal(informer.list('Pod').length, 2);
  t.equal(informer.list('Pod', 'x').length, 1);
  emit([{ type: 'delete', key: 'Pod/x/a' }]);
  t.equal(informer.list('Pod', 'x').length, 0);
  fault([{ where: 'f', reason: 'r' }]);
  t.same(informer.faults, [{ where: 'f', reason: 'r' }]);
  stop();
  emit([pod('c', 'x')]);
  t.same(heard, [[], ['Pod/x/a', 'Pod/y/b'], ['Pod/x/a']]);
});
