// Services by address block: what a walk over all of them would find, without one.
import fc from 'fast-check';
import t from 'tap';
import { ipToBytes } from '#shared/address.ts';
import { contains } from '../../../ztunnel/state/cidr.ts';
import { CidrVips } from '../../../ztunnel/state/cidr-vips.ts';
import type { CidrVip, Service } from '../../../ztunnel/state/model.ts';
import { aService } from '../../fixtures/mesh.ts';

/** The rule, service by service and block by block: the client's namespace, then the length, then canonical, then the first. */
function walk(services: readonly Service[], network: string, ip: string, client: string): Service | undefined {
  const bytes = ipToBytes(ip) ?? new Uint8Array();
  let best: { service: Service; rank: number } | undefined;
  for (const service of services) {
    if (service.visibility === 'Namespace' && service.namespace !== client) continue;
    for (const block of service.cidrVips) {
      const base = ipToBytes(block.ip) ?? new Uint8Array();
      if (block.network !== network || !contains({ bytes: base, length: block.length }, bytes)) continue;
      const rank = (service.namespace === client ? 1024 : 0) + block.length * 2 + (service.canonical ? 1 : 0);
      if (!best || rank > best.rank) best = { service, rank };
    }
  }
  return best?.service;
}

/** Few addresses, so that blocks hold them, each other, and the same ones twice. */
const ip = fc.oneof(
  fc.tuple(fc.constantFrom(9, 10), fc.constantFrom(0, 1, 128, 255), fc.constantFrom(0, 3)).map(([a, b, c]) => `${a}.${b}.0.${c}`),
  fc.tuple(fc.constantFrom('fd00', 'fd80'), fc.constantFrom('1', '8000')).map(([a, b]) => `${a}::${b}`),
);
const network = fc.constantFrom('', 'far');
const namespace = fc.constantFrom('shop', 'bank', 'idle');
const block: fc.Arbitrary<CidrVip> = fc
  .record({ network, ip, length: fc.constantFrom(0, 1, 8, 9, 15, 24, 31, 32, 64, 127, 128) })
  .map((one) => ({ ...one, length: Math.min(one.length, one.ip.includes(':') ? 128 : 32) }));
const service = fc
  .record({
    namespace,
    cidrVips: fc.array(block, { minLength: 1, maxLength: 3 }),
    canonical: fc.boolean(),
    visibility: fc.constantFrom('Public' as const, 'Namespace' as const),
  })
  .map((init) => aService('any', { ...init, vips: [] }));

t.test('any services, some of which went again: the same as a walk over those that are there', async (t) => {
  fc.assert(
    fc.property(
      fc.array(service, { maxLength: 12 }),
      fc.array(fc.nat(11), { maxLength: 6 }),
      fc.array(fc.tuple(network, ip, namespace), { minLength: 1, maxLength: 8 }),
      (services, gone, questions) => {
        const index = new CidrVips();
        for (const each of services) index.add(each);
        const left = services.filter((_, at) => !gone.includes(at));
        for (const each of services) if (!left.includes(each)) index.delete(each);
        for (const question of questions)
          if (index.find(...question) !== walk(left, ...question)) throw new Error(`${question.join(' ')} is another one`);
      },
    ),
    { numRuns: 2000 },
  );
  t.pass('2000 times');
});

t.test('ten thousand blocks cost no scan', async (t) => {
  const cost = (count: number): number => {
    const index = new CidrVips();
    for (let i = 0; i < count; i++) {
      const cidrVips = [{ network: '', ip: `10.${i >> 8}.${i & 255}.0`, length: 24 }];
      index.add(aService(`s${i}`, { vips: [], cidrVips }));
    }
    const rounds = Array.from({ length: 9 }, () => {
      const started = performance.now();
      let found = 0;
      for (let i = 0; i < 2000; i++) if (index.find('', `10.0.${(i % count) & 255}.7`, 'bank')) found++;
      const spent = performance.now() - started;
      t.equal(found, 2000);
      return spent;
    });
    return Math.min(...rounds);
  };
  const [few, many] = [cost(100), cost(10_000)];
  t.ok(many < few * 10, `2000 look-ups take ${many.toFixed(2)} ms among 10,000 blocks, ${few.toFixed(2)} ms among 100`);
});
