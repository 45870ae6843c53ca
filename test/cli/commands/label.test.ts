import t from 'tap';
import { changeLabels, parseLabels } from '../../../cli/commands/label.ts';

t.test('labels are read as kubectl reads them', async (t) => {
  t.same(parseLabels(['istio.io/dataplane-mode=ambient', 'a=', 'b-']), {
    set: { 'istio.io/dataplane-mode': 'ambient', a: '' },
    remove: ['b'],
  });
  for (const bad of ['a', '=b', 'a=b c', '']) t.throws(() => parseLabels([bad]), /neither KEY=VALUE nor KEY-/u, bad);
});

t.test('and told as kubectl tells them', async (t) => {
  t.same(changeLabels({}, { set: { a: '1' }, remove: [] }, false), { labels: { a: '1' }, verb: 'labeled' });
  t.same(changeLabels({ a: '1' }, { set: { a: '1' }, remove: [] }, false), { labels: { a: '1' }, verb: 'not labeled' });
  t.same(changeLabels({ a: '1', b: '2' }, { set: {}, remove: ['a'] }, false), { labels: { b: '2' }, verb: 'unlabeled' });
  t.throws(() => changeLabels({ a: '1' }, { set: { a: '2' }, remove: [] }, false), /already has a value/u);
  t.same(changeLabels({ a: '1' }, { set: { a: '2' }, remove: [] }, true), { labels: { a: '2' }, verb: 'labeled' });
});
