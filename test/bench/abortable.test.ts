import t from 'tap';
import { orAborted } from '../../bench/abortable.ts';

t.test('work that settles first', async (t) => {
  const stop = new AbortController();
  t.equal(await orAborted(Promise.resolve(7), stop.signal), 7);
  await t.rejects(orAborted(Promise.reject(new Error('broken')), stop.signal), /broken/);
});

t.test('an abort, before and during', async (t) => {
  const stop = new AbortController();
  const waiting = orAborted(new Promise(() => undefined), stop.signal);
  stop.abort(new Error('stopped by SIGTERM'));
  await t.rejects(waiting, /stopped by SIGTERM/);
  await t.rejects(orAborted(Promise.resolve(7), stop.signal), /stopped by SIGTERM/);
});

t.test('a deadline names what did not come', async (t) => {
  const { signal } = new AbortController();
  const hangs = new Promise(() => undefined);
  await t.rejects(orAborted(hangs, signal, { ms: 20, what: 'hbone stream-1' }), /hbone stream-1: nothing came of it in 20 ms/);
  t.equal(await orAborted(Promise.resolve(7), signal, { ms: 20, what: 'x' }), 7);
});
