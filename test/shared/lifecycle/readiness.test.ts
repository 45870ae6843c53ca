import t from 'tap';
import { Readiness } from '#shared/lifecycle/readiness.ts';

t.test('ready when nobody blocks, pending names sorted', async (t) => {
  const readiness = new Readiness();
  t.equal(readiness.ready, true);
  const xds = readiness.block('xds');
  const again = readiness.block('xds');
  {
    using _proxy = readiness.block('proxy');
    t.same(readiness.pending, ['proxy', 'xds']);
  }
  t.same(readiness.pending, ['xds']);
  let woken = 0;
  const waiting = [readiness.whenReady(), readiness.whenReady()].map((promise) => promise.then(() => (woken += 1)));
  xds[Symbol.dispose]();
  xds[Symbol.dispose]();
  await Promise.resolve();
  t.equal(woken, 0, 'the same name is held twice');
  again[Symbol.dispose]();
  await Promise.all(waiting);
  t.equal(woken, 2);
  await readiness.whenReady();
});
