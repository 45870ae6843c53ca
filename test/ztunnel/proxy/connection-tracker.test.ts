import t from 'tap';
import { nextId } from '#shared/collections/id-table.ts';
import { MeshError } from '#shared/errors.ts';
import { ConnectionTracker } from '../../../ztunnel/proxy/connection-tracker.ts';
import type { TrackedConnection } from '../../../ztunnel/proxy/connection-tracker.ts';

const base = {
  pod: 'a',
  direction: 'inbound',
  source: { ip: '10.0.0.1', port: 1 },
  originalDestination: '10.0.0.2:80',
  actualDestination: '10.0.0.2:80',
  protocol: 'TCP',
} as const;

t.test('asks every live connection again, cuts once, and forgets', async (t) => {
  const tracker = new ConnectionTracker();
  const cuts: string[] = [];
  let allowed = true;
  const connection = (name: string, recheck?: () => MeshError | undefined): TrackedConnection => ({
    id: nextId(),
    ...base,
    pod: name,
    ...(recheck ? { recheck } : {}),
    cut: ({ message }) => cuts.push(`${name}: ${message}`),
  });
  tracker.add(connection('out'));
  tracker.add(connection('in', () => (allowed ? undefined : new MeshError('policy_changed', 'no more'))));
  const gone = connection('gone', () => new MeshError('policy_changed', 'never'));
  tracker.add(gone);
  tracker.delete(gone);
  tracker.recheckAll();
  t.strictSame(cuts, []);
  t.equal([...tracker.all()].length, 2);
  allowed = false;
  tracker.recheckAll();
  tracker.recheckAll();
  t.strictSame(cuts, ['in: no more']);
  t.equal(tracker.size, 1);
});
