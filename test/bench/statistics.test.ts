import t from 'tap';
import { median, medians, quantile } from '../../bench/statistics.ts';

t.test('median', (t) => {
  t.equal(median([]), undefined);
  t.equal(median([3]), 3);
  t.equal(median([9, 1, 5]), 5);
  t.equal(median([4, 1, 2, 3]), 2.5);
  t.end();
});

t.test('quantile', (t) => {
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  t.equal(quantile(hundred, 0.5), 50);
  t.equal(quantile(hundred, 0.99), 99);
  t.equal(quantile(hundred, 1), 100);
  t.equal(quantile(hundred, 0), 1);
  t.equal(quantile([], 0.5), undefined);
  t.end();
});

t.test('medians go field by field, over the samples that have it', (t) => {
  t.same(medians([{ a: 1, b: 10 }, { a: 3 }, { a: 2, b: 20 }]), { a: 2, b: 15 });
  t.end();
});
