import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { CertificateFetcher } from '#shared/identity/ca-client.ts';
import { CertificateCache } from '#shared/identity/certificate-cache.ts';
import type { CertificateCacheOptions } from '#shared/identity/certificate-cache.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { spiffeId } from '#shared/ids.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { createTestCa } from '../../harness/test-ca.ts';

t.setTimeout(10_000);

const HOUR = 3_600_000;
const ca = createTestCa();
const id = (name: string): SpiffeId => spiffeId({ trustDomain: 'td', namespace: 'ns', serviceAccount: name });

/** A CA that answers when the test says so. */
class SlowCa implements CertificateFetcher {
  readonly asked: SpiffeId[] = [];
  readonly aborted: SpiffeId[] = [];
  #waiting = new Map<SpiffeId, PromiseWithResolvers<WorkloadCertificate>>();

  fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> {
    this.asked.push(identity);
    const answer = Promise.withResolvers<WorkloadCertificate>();
    this.#waiting.set(identity, answer);
    signal.addEventListener('abort', () => this.aborted.push(identity));
    return answer.promise;
  }

  async answer(identity: SpiffeId, from: number, life = 24 * HOUR): Promise<WorkloadCertificate> {
    const certificate = ca.issue(identity, { notBefore: new Date(from), notAfter: new Date(from + life) });
    this.#waiting.get(identity)?.resolve(certificate);
    await turn();
    return certificate;
  }

  async fail(identity: SpiffeId, reason: string): Promise<void> {
    this.#waiting.get(identity)?.reject(new MeshError('no_certificate', reason));
    await turn();
  }
}

/** Lets promises settle. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function cacheWith(options: Partial<CertificateCacheOptions> = {}) {
  const clock = new FakeClock(Date.UTC(2026, 0, 1));
  const slow = new SlowCa();
  const metrics = new Metrics();
  const log = new Logging({ sink: { write: () => undefined } }).scope('identity');
  const cache = new CertificateCache({ fetcher: slow, clock, log, metrics, random: () => 0.5, ...options });
  return { cache, clock, slow, metrics };
}

t.test('many callers, one fetch, renewed at half of its life', async (t) => {
  const { cache, clock, slow } = cacheWith();
  const callers = [cache.get(id('web')), cache.get(id('web')), cache.get(id('web'))];
  t.equal(cache.current(id('web')), undefined);
  t.equal(cache.dump()[0]?.state, 'Initializing');
  const first = await slow.answer(id('web'), clock.now());
  for (const got of await Promise.all(callers)) t.equal(got, first);
  t.equal(slow.asked.length, 1);

  clock.advance(12 * HOUR - 1);
  t.equal(slow.asked.length, 1);
  clock.advance(1);
  t.equal(slow.asked.length, 2, 'half of 24 h');
  t.equal(await cache.get(id('web')), first, 'the old one serves meanwhile');
  const second = await slow.answer(id('web'), clock.now());
  t.equal(await cache.get(id('web')), second);
});

t.test('renewals are spread', async (t) => {
  for (const [random, hours] of [
    [0, 12 - 1.2],
    [1, 12 + 1.2],
  ] as const) {
    const { cache, clock, slow } = cacheWith({ random: () => random });
    cache.prefetch(id('web'));
    await slow.answer(id('web'), clock.now());
    clock.advance(hours * HOUR - 1000);
    t.equal(slow.asked.length, 1);
    clock.advance(2000);
    t.equal(slow.asked.length, 2);
  }
});

t.test('failures: the reason at once, retries at 1 s, 2 s, … 150 s, and recovery', async (t) => {
  const { cache, clock, slow, metrics } = cacheWith({ patience: 0 });
  const refused = t.rejects(cache.get(id('web')), { code: 'no_certificate', message: 'no such pod' });
  await slow.fail(id('web'), 'no such pod');
  await refused;
  await t.rejects(cache.get(id('web')), /no such pod/u, 'the cached reason, without another fetch');
  t.equal(slow.asked.length, 1);
  t.equal(cache.dump()[0]?.state, 'Unavailable: no such pod');
  let asked = 1;
  for (const seconds of [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]) {
    clock.advance(seconds * 1000 - 1);
    t.equal(slow.asked.length, asked);
    clock.advance(1);
    asked += 1;
    t.equal(slow.asked.length, asked, `after ${seconds} s`);
    await slow.fail(id('web'), 'still none');
  }
  clock.advance(150_000);
  const certificate = await slow.answer(id('web'), clock.now());
  t.equal(await cache.get(id('web')), certificate);
  t.equal(cache.dump()[0]?.state, 'Available');
  const { body } = await metrics.render();
  t.match(body, 'culvert_certificate_fetches_total{result="failure"} 11');
  t.match(body, /culvert_certificate_expiry_timestamp_seconds\{identity="spiffe:\/\/td\/ns\/ns\/sa\/web"\} \d+/u);
});

t.test('an old certificate serves until its end, and the retry is no later than that', async (t) => {
  const { cache, clock, slow } = cacheWith();
  cache.prefetch(id('web'));
  const first = await slow.answer(id('web'), clock.now(), 1000 * 1000);
  clock.advance(500_000);
  while (clock.now() < first.notAfter) {
    t.equal(await cache.get(id('web')), first);
    const asked = slow.asked.length;
    await slow.fail(id('web'), 'CA down');
    const before = clock.now();
    while (slow.asked.length === asked) clock.advance(100);
    t.ok(clock.now() - before <= 150_100);
  }
  t.ok(clock.now() - first.notAfter < 100, 'asked right at the end');
  await t.rejects(cache.get(id('web')), /CA down/u);
  t.equal(cache.dump()[0]?.state, 'Unavailable: CA down');
});

t.test('a certificate that comes late in its life is not asked for without pause', async (t) => {
  const { cache, clock, slow } = cacheWith();
  cache.prefetch(id('web'));
  await slow.answer(id('web'), clock.now() - 20 * HOUR);
  clock.advance(2 * HOUR - 1);
  t.equal(slow.asked.length, 1);
  clock.advance(1);
  t.equal(slow.asked.length, 2, 'half of the four hours left');
});

t.test('eight at a time, those that a connection waits for first', async (t) => {
  const { cache, slow } = cacheWith({ concurrency: 2 });
  for (const name of ['a', 'b', 'c', 'd', 'e']) cache.prefetch(id(name));
  t.same(slow.asked, [id('a'), id('b')]);
  const urgent = cache.get(id('d'));
  await slow.answer(id('a'), Date.UTC(2026, 0, 1));
  await turn();
  t.same(slow.asked.slice(2), [id('d')]);
  await slow.answer(id('d'), Date.UTC(2026, 0, 1));
  t.equal((await urgent).identity, id('d'));
  await turn();
  t.same(slow.asked.slice(3), [id('c')], 'then in order of coming');
});

t.test('forgetting has a grace, refuses waiters and stops the fetch', async (t) => {
  const changes: [SpiffeId, boolean][] = [];
  const { cache, clock, slow } = cacheWith({
    onChange: (identity, certificate) => changes.push([identity, certificate !== undefined]),
  });
  cache.prefetch(id('web'));
  await slow.answer(id('web'), clock.now());
  cache.forget(id('web'));
  clock.advance(9999);
  cache.prefetch(id('web'));
  clock.advance(20_000);
  t.ok(cache.current(id('web')), 'the pod came back in time');
  cache.forget(id('web'));
  clock.advance(9999);
  t.ok(await cache.get(id('web')), 'a last connection of the pod');
  clock.advance(9999);
  t.ok(cache.current(id('web')), 'has a grace of its own');
  clock.advance(1);
  t.equal(cache.current(id('web')), undefined, 'and does not keep it for ever');
  t.same(changes, [
    [id('web'), true],
    [id('web'), false],
  ]);
  clock.advance(24 * HOUR);
  t.equal(slow.asked.length, 1, 'no renewal of what is forgotten');

  const refused = t.rejects(cache.get(id('gone')), /the identity is no longer needed/u);
  cache.forget(id('gone'));
  clock.advance(10_000);
  await refused;
  t.ok(slow.aborted.includes(id('gone')), 'the fetch is told');
  await slow.answer(id('gone'), clock.now());
  t.equal(cache.current(id('gone')), undefined, 'the late answer is dropped');
  t.same(cache.dump(), []);
});

t.test('the dump shows chain and roots, never a key', async (t) => {
  const { cache, clock, slow } = cacheWith();
  for (const name of ['b', 'a']) cache.prefetch(id(name));
  const certificate = await slow.answer(id('a'), clock.now());
  const dump = cache.dump();
  t.same(
    dump.map(({ identity, state }) => [identity, state]),
    [
      [id('a'), 'Available'],
      [id('b'), 'Initializing'],
    ],
  );
  const leaf = dump[0]?.certChain[0];
  t.equal(leaf?.serialNumber, certificate.serial);
  t.equal(Buffer.from(leaf?.pem ?? '', 'base64').toString(), certificate.chain);
  t.equal(leaf?.validFrom, '2026-01-01T00:00:00.000Z');
  t.equal(dump[0]?.rootCerts.length, 1);
  t.notMatch(JSON.stringify(dump), /PRIVATE|UFJJVkFUR/u);
});

t.test(
  'wanted after the CA was away: the attempt is now, however long the pause has become, and not more than one a second',
  async (t) => {
    const { cache, clock, slow } = cacheWith();
    cache.prefetch(id('web'));
    for (const seconds of [1, 2, 4, 8, 16, 32]) {
      await slow.fail(id('web'), 'CA down');
      clock.advance(seconds * 1000);
    }
    await slow.fail(id('web'), 'CA down');
    const asked = slow.asked.length;
    await t.rejects(cache.get(id('web')), /CA down/u, 'the reason at once');
    t.equal(slow.asked.length, asked, 'it was just asked');
    clock.advance(1000);
    await Promise.all(
      [1, 2, 3].map(() => t.rejects(cache.get(id('web')), /CA down/u, 'nobody waits for an attempt that may fail')),
    );
    t.equal(slow.asked.length, asked + 1);
    const certificate = await slow.answer(id('web'), clock.now());
    t.equal(await cache.get(id('web')), certificate);
    clock.advance(11 * HOUR);
    t.equal(slow.asked.length, asked + 1, 'the pause that was cut short does not end in an attempt of its own');
  },
);

t.test('the clock steps past the end of a certificate: who wants it waits for the next', async (t) => {
  const { cache, clock, slow } = cacheWith();
  cache.prefetch(id('web'));
  await slow.answer(id('web'), clock.now(), 4 * 60_000);
  clock.advance(5000);
  clock.step(5 * 60_000);
  t.equal(cache.current(id('web')), undefined);
  const wanted = [cache.get(id('web')), cache.get(id('web'))];
  const next = await slow.answer(id('web'), clock.now(), 4 * 60_000);
  t.same(await Promise.all(wanted), [next, next]);
  t.equal(slow.asked.length, 2);
  clock.step(-10 * 60_000);
  t.equal(await cache.get(id('web')), next, 'a step back ends nothing');
  clock.advance(121_000);
  t.equal(slow.asked.length, 3, 'and renewal comes after half of its life, by the clock that never steps');
});

t.test('who asks for a new identity waits through failed fetches, not for ever', async (t) => {
  const { cache, clock, slow } = cacheWith();
  const waiting = cache.get(id('web'));
  await slow.fail(id('web'), 'the CA starts');
  clock.advance(2000);
  const certificate = await slow.answer(id('web'), clock.now());
  t.equal(await waiting, certificate, 'the second fetch');

  const vain = cache.get(id('cart'));
  const refused = t.rejects(vain, { code: 'no_certificate', message: 'the CA is away' });
  for (let left = 10_000; left > 0; left -= 500) {
    await slow.fail(id('cart'), 'the CA is away');
    clock.advance(500);
  }
  await slow.fail(id('cart'), 'the CA is away');
  await refused;
  await t.rejects(cache.get(id('cart')), { message: 'the CA is away' }, 'later ones are told at once');
});

t.test('a first fetch that nobody answers is waited for by its own deadline', async (t) => {
  const { cache, clock, slow } = cacheWith();
  const waiting = cache.get(id('web'));
  clock.advance(11_000);
  const refused = t.rejects(waiting, { message: 'no answer' });
  await slow.fail(id('web'), 'no answer');
  await refused;
});
