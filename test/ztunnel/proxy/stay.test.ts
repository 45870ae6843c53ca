import t from 'tap';
import { ConnectionLimit } from '#shared/lifecycle/connection-limit.ts';
import { Drain } from '#shared/lifecycle/drain.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { Stays } from '../../../ztunnel/proxy/stay.ts';

function oneRoom() {
  const held = new Int32Array(1);
  const drain = new Drain();
  const limit = new ConnectionLimit({ max: 1 }, new Metrics(), { held, own: 0, short: new Int32Array(1) });
  return { stays: new Stays(limit, drain), held, drain };
}

t.test('a stay holds a place and the drain until it is disposed, once', async (t) => {
  const { stays, held, drain } = oneRoom();
  const stay = stays.take('outbound');
  t.same([held[0], drain.holds], [1, 1]);
  t.throws(() => stays.take('outbound'), { code: 'limit_reached' });
  t.equal(drain.holds, 1, 'one that found no room holds nothing');
  stay[Symbol.dispose]();
  stay[Symbol.dispose]();
  t.same([held[0], drain.holds], [0, 0]);
});

t.test('one that was passed on is given back by who took it', async (t) => {
  const { stays, held, drain } = oneRoom();
  const stay = stays.take('outbound');
  const passed = stay.pass();
  stay[Symbol.dispose]();
  t.same([held[0], drain.holds], [1, 1]);
  t.throws(() => stay.pass(), /over/u);
  passed.leave();
  t.same([held[0], drain.holds], [0, 0]);
});
