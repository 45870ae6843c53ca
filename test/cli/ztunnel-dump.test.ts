import t from 'tap';
import { addressesOf } from '../../cli/ztunnel-dump.ts';
import { dumpState } from '../../ztunnel/state/dump.ts';
import { aService, aStore } from '../fixtures/mesh.ts';

t.test('addresses and blocks of a service as the admin page tells them', async (t) => {
  const cidrVips = [
    { network: '', ip: '10.97.0.0', length: 16 },
    { network: 'far', ip: 'fd00::', length: 64 },
  ];
  const shown = (init: Parameters<typeof aService>[1]): string[] =>
    dumpState(aStore(aService('cart', init))).services.map((service) => addressesOf(service));
  t.strictSame(shown({ cidrVips }), ['10.96.0.1,10.97.0.0/16,far/fd00::/64']);
  t.strictSame(shown({ vips: [] }), ['']);
});
