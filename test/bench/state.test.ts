// The state bench end to end with a small mesh: a real ztunnel takes it, and a change, and its memory is read.
import t from 'tap';
import { measureState } from '../../bench/state/ztunnel.ts';

t.test('a small mesh is taken, and changes', { timeout: 60_000 }, async (t) => {
  const mesh = { services: 20, workloads: 200 };
  const { settled, peak, sync, message, change, ...more } = await measureState({
    mesh,
    changes: 3,
    settle: 500,
    signal: AbortSignal.timeout(50_000),
  });
  t.same(more, {});
  t.ok((settled ?? 0) > 20 && (peak ?? 0) >= (settled ?? 0), `${settled} MB, at the peak ${peak}`);
  t.ok((sync ?? 0) > 0 && (change ?? 0) > 0, `${sync} ms, a change ${change}`);
  t.ok((message ?? 0) > 0.05 && (message ?? 0) < 1, `${message} MB`);
});
