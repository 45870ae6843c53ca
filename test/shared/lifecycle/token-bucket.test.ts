import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { TokenBucket } from '#shared/lifecycle/token-bucket.ts';

t.test('a burst at once, then the rate, and no more than a burst after a pause', async (t) => {
  const clock = new FakeClock();
  const bucket = new TokenBucket({ rate: 10, burst: 5, clock });
  const taken = (): number => {
    let count = 0;
    while (bucket.take()) count++;
    return count;
  };
  t.equal(taken(), 5);
  t.equal(taken(), 0);
  clock.advance(99);
  t.equal(taken(), 0);
  clock.advance(1);
  t.equal(taken(), 1);
  clock.advance(350);
  t.equal(taken(), 3);
  clock.advance(50);
  t.equal(taken(), 1, 'a part of a token was kept');
  clock.advance(60_000);
  t.equal(taken(), 5);
});
