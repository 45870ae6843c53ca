// The start of the pipeline: what counts as a first list.
import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import type { ObjectEvent, ObjectSource } from '#shared/kube/object.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { loadConfig } from '../../controlplane/config.ts';
import { Pipeline } from '../../controlplane/pipeline.ts';

const namespace: ObjectEvent = {
  type: 'set',
  key: 'Namespace//shop',
  object: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', namespace: '' } },
};
const turns = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function pipelineOver(first: ObjectEvent[]) {
  const clock = new FakeClock(1);
  let tell: (events: ObjectEvent[]) => void = () => undefined;
  const source: ObjectSource = {
    async watch(onBatch) {
      tell = onBatch;
      onBatch(first);
    },
    locate: () => 'here',
    close: () => undefined,
  };
  const env: Record<string, string> = { OBJECT_DIRS: '/a', STATUS_DIR: '/b', OBJECT_WRITE_DIR: '/c', STATE_DIR: '/d' };
  const { settings } = loadConfig((name) => env[name]);
  const lines: string[] = [];
  const pipeline = new Pipeline({
    source,
    settings,
    debounce: { after: 100, max: 1000 },
    clock,
    log: new Logging({ sink: { write: (line) => lines.push(line) } }).scope('config'),
    metrics: new Metrics(),
    onSnapshot: () => undefined,
    moreFaults: () => [],
  });
  return { pipeline, clock, lines, tell: (events: ObjectEvent[]) => tell(events) };
}

t.test('objects that are there are served at once', async (t) => {
  const { pipeline } = pipelineOver([namespace]);
  await pipeline.start();
  t.equal(pipeline.snapshot.sequence, 1);
});

t.test('an empty first list is not served while it may still be filled', async (t) => {
  const { pipeline, clock, tell } = pipelineOver([]);
  const started = pipeline.start();
  clock.advance(1500);
  await turns();
  t.equal(pipeline.snapshot.sequence, 0, 'nothing is taken from a proxy that reconnects');
  tell([namespace]);
  clock.advance(100);
  await started;
  t.equal(pipeline.snapshot.sequence, 1);
  t.ok(pipeline.store.get('Namespace', '', 'shop'));
});

t.test('a mesh that stays empty is served as such', async (t) => {
  const { pipeline, clock, lines } = pipelineOver([]);
  const started = pipeline.start();
  await turns();
  clock.advance(3000);
  await started;
  t.equal(pipeline.snapshot.sequence, 1);
  t.match(lines.join(''), /there is no object: the mesh is served as empty/u);
});
