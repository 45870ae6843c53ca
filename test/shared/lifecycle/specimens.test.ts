import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { Specimens } from '#shared/lifecycle/specimens.ts';

setFlagsFromString('--expose-gc');
const collect: (options: object) => Promise<void> = runInNewContext('gc');

t.test('the latest of a kind stays, until all are to go', async (t) => {
  const specimens = new Specimens();
  const refs = ['first', 'second', 'other'].map((name) => {
    const object = { name };
    specimens.keep(name === 'other' ? 'other' : 'kind', object);
    return new WeakRef(object);
  });
  const left = async (): Promise<string[]> => {
    await new Promise((resolve) => setImmediate(resolve));
    await collect({ type: 'major', execution: 'async' });
    return refs.flatMap((ref) => ref.deref()?.name ?? []);
  };
  t.strictSame(await left(), ['second', 'other']);
  specimens.forget();
  t.strictSame(await left(), []);
});
