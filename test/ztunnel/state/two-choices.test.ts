import t from 'tap';
import { workloadUid } from '#shared/ids.ts';
import type { Candidate } from '../../../ztunnel/state/two-choices.ts';
import { chooseOf, groupOf } from '../../../ztunnel/state/two-choices.ts';

function candidate(name: string, inFlight = 0, capacity = 1): Candidate {
  return { load: { uid: workloadUid(name), inFlight }, port: 80, capacity };
}

/** The given numbers in turn, over and over. */
function numbers(...values: number[]): () => number {
  let next = 0;
  return () => values[next++ % values.length] ?? 0;
}

t.test('of the two that are drawn, the one with less to do; the first when they are equal', async (t) => {
  const group = groupOf([candidate('idle'), candidate('busy', 5), candidate('other', 9)]);
  t.equal(chooseOf(group, numbers(0.5, 0.1))?.load.uid, 'idle');
  t.equal(chooseOf(group, numbers(0.9, 0.5))?.load.uid, 'busy');
  t.equal(chooseOf(groupOf([candidate('a', 1), candidate('b', 1)]), numbers(0.6, 0.1))?.load.uid, 'b');
});

t.test('twice the capacity is drawn twice as often, and is as busy with twice the connections', async (t) => {
  const group = groupOf([candidate('big', 4, 4), candidate('small', 2, 1)]);
  t.equal(chooseOf(group, numbers(0.9, 0.1))?.load.uid, 'big');
  const idle = groupOf([candidate('big', 0, 3), candidate('small', 0, 1)]);
  const drawn = Array.from({ length: 100 }, (_, i) => chooseOf(idle, () => i / 100)?.load.uid);
  t.equal(drawn.filter((uid) => uid === 'big').length, 75);
});

t.test('connections that are held spread evenly', async (t) => {
  const candidates = Array.from({ length: 20 }, (_, i) => candidate(`e${i}`));
  const group = groupOf(candidates);
  for (let i = 0; i < 2000; i++) {
    const chosen = chooseOf(group, Math.random);
    if (chosen) chosen.load.inFlight += 1;
  }
  const loads = candidates.map(({ load }) => load.inFlight);
  t.ok(Math.max(...loads) - Math.min(...loads) <= 10, loads.join(' '));
});

t.test('who is not usable is passed over, however few are left', async (t) => {
  const candidates = Array.from({ length: 1000 }, (_, i) => candidate(`e${i}`));
  const group = groupOf(candidates);
  const only = workloadUid('e777');
  t.equal(chooseOf(group, Math.random, ({ load: { uid } }) => uid !== only)?.load.uid, only);
  t.equal(
    chooseOf(group, Math.random, () => true),
    undefined,
  );
  t.equal(
    chooseOf(groupOf([candidate('a')]), Math.random, () => true),
    undefined,
  );
  t.equal(chooseOf(groupOf([]), Math.random), undefined);
});
