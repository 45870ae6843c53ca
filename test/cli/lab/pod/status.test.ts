import t from 'tap';
import type { ProcessState } from '../../../../cli/lab/supervised.ts';
import { podStatus } from '../../../../cli/lab/pod/status.ts';
import type { PodView } from '../../../../cli/lab/pod/status.ts';

const exit = (code: number) => ({ code, startedAt: 0, finishedAt: 1000 });
const running: ProcessState = { t: 'running', pid: 1, startedAt: 0 };
const view = (states: ProcessState[], more: Partial<PodView> = {}): PodView => ({
  hostIP: '172.30.0.11',
  podIP: '10.244.1.2',
  trouble: undefined,
  startedAt: 0,
  expected: states.length,
  containers: states.map((state, index) => ({
    name: `c${index}`,
    image: 'x',
    process: { state, lastExit: state.t === 'ended' ? state.exit : undefined, restarts: 0 },
    ready: state.t === 'running',
    notReady: undefined,
  })),
  ...more,
});

t.test('phases', async (t) => {
  const waiting: ProcessState = { t: 'waiting', reason: 'StartError', message: 'no program' };
  t.equal(podStatus(view([running])).phase, 'Running');
  t.equal(podStatus(view([waiting])).phase, 'Pending');
  t.equal(podStatus(view([], { expected: 1 })).phase, 'Pending', 'before its containers are made');
  t.equal(podStatus(view([running, { t: 'ended', exit: exit(1) }])).phase, 'Running');
  t.equal(podStatus(view([{ t: 'ended', exit: exit(0) }])).phase, 'Succeeded');
  t.equal(
    podStatus(
      view([
        { t: 'ended', exit: exit(0) },
        { t: 'ended', exit: exit(3) },
      ]),
    ).phase,
    'Failed',
  );
});

t.test('what is in the way is told', async (t) => {
  const trouble = { reason: 'FailedCreatePodSandBox', message: 'CNI ADD of bridge failed' };
  t.match(podStatus(view([], { expected: 1, trouble })), {
    reason: 'FailedCreatePodSandBox',
    conditions: [
      { type: 'PodScheduled', status: 'True' },
      { type: 'Ready', status: 'False', message: 'CNI ADD of bridge failed' },
      {},
    ],
  });
  const unready = view([running]);
  const [first] = unready.containers;
  const sick = { ...unready, containers: [{ ...first!, ready: false, notReady: 'HTTP status 503' }] };
  t.match(podStatus(sick).conditions[1], { status: 'False', reason: 'ContainersNotReady', message: 'c0: HTTP status 503' });
});
