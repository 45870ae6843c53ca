import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { spiffeId } from '#shared/ids.ts';
import { CertificateMirror } from '#shared/workers/certificate-mirror.ts';

const identity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' });
const certificate = (serial: string, notAfter: number): WorkloadCertificate => ({
  identity,
  chain: '',
  key: '',
  roots: '',
  notBefore: 0,
  notAfter,
  serial,
});

t.test('what was pushed is used until it ends; what is missing is asked for, once at a time', async (t) => {
  const clock = new FakeClock();
  const asked: PromiseWithResolvers<WorkloadCertificate>[] = [];
  const mirror = new CertificateMirror(clock, () => {
    const question = Promise.withResolvers<WorkloadCertificate>();
    asked.push(question);
    return question.promise;
  });
  const both = [mirror.get(identity), mirror.get(identity)];
  t.equal(asked.length, 1);
  asked[0]?.resolve(certificate('1', 100));
  t.strictSame(
    (await Promise.all(both)).map(({ serial }) => serial),
    ['1', '1'],
  );
  const pushed = certificate('2', 100);
  mirror.set(identity, pushed);
  t.equal(await mirror.get(identity), pushed, 'the same object, so that TLS settings are made once');
  mirror.set(identity, certificate('3', 200));
  t.equal((await mirror.get(identity)).serial, '3', 'rotated');
  clock.advance(300);
  const expired = mirror.get(identity);
  asked[1]?.reject(new MeshError('no_certificate', 'the CA is down'));
  await t.rejects(expired, { code: 'no_certificate' });
  mirror.set(identity, certificate('4', 500));
  mirror.set(identity, undefined);
  void mirror.get(identity);
  t.equal(asked.length, 3, 'forgotten');
});

t.test('an answer is kept like what is pushed, which a worker that replaces another one has not heard', async (t) => {
  const clock = new FakeClock();
  let asked = 0;
  const mirror = new CertificateMirror(clock, async () => certificate(String((asked += 1)), 100));
  const first = await mirror.get(identity);
  t.equal(await mirror.get(identity), first, 'the same object');
  t.equal(asked, 1);
  mirror.set(identity, undefined);
  const waiting = mirror.get(identity);
  const pushed = certificate('9', 200);
  mirror.set(identity, pushed);
  t.equal(await waiting, pushed, 'what was pushed meanwhile is newer');
  t.equal(await mirror.get(identity), pushed);
});
