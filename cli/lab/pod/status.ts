// What the kubelet says about a pod: a pure function of what its runner knows.
import type { Condition } from '#shared/kube/kinds.ts';
import type { Supervised } from '../supervised.ts';

export interface ContainerView {
  name: string;
  image: string;
  process: Pick<Supervised, 'state' | 'lastExit' | 'restarts'>;
  ready: boolean;
  notReady: string | undefined;
}

export interface PodView {
  hostIP: string;
  podIP: string | undefined;
  /** Why the pod has no network or cannot start yet. */
  trouble: { reason: string; message: string } | undefined;
  containers: readonly ContainerView[];
  /** Names of the spec's containers, which may not have been created yet. */
  expected: number;
  /** Milliseconds since the epoch. */
  startedAt: number;
}

export interface PodStatusPatch {
  phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
  hostIP: string;
  podIP?: string;
  podIPs?: { ip: string }[];
  startTime: string;
  reason?: string;
  message?: string;
  conditions: Condition[];
  containerStatuses: Record<string, unknown>[];
}

export function podStatus(view: PodView): PodStatusPatch {
  const phase = podPhase(view);
  const ready =
    phase === 'Running' && view.containers.length === view.expected && view.containers.every((container) => container.ready);
  const unready = view.containers.find((container) => !container.ready);
  const detail = ready ? undefined : (view.trouble ?? whyNotReady(unready));
  return {
    phase,
    hostIP: view.hostIP,
    ...(view.podIP !== undefined && { podIP: view.podIP, podIPs: [{ ip: view.podIP }] }),
    startTime: new Date(view.startedAt).toISOString(),
    ...(view.trouble && { reason: view.trouble.reason, message: view.trouble.message }),
    conditions: [
      { type: 'PodScheduled', status: 'True' },
      { type: 'Ready', status: ready ? 'True' : 'False', ...detail },
      { type: 'ContainersReady', status: ready ? 'True' : 'False', ...detail },
    ],
    containerStatuses: view.containers.map(containerStatus),
  };
}

function podPhase({ containers, expected }: PodView): PodStatusPatch['phase'] {
  if (containers.length < expected || containers.every(({ process }) => process.state.t === 'waiting' && !process.lastExit))
    return 'Pending';
  const ends = containers.flatMap(({ process }) => (process.state.t === 'ended' ? [process.state.exit.code] : []));
  if (ends.length < containers.length) return 'Running';
  return ends.every((code) => code === 0) ? 'Succeeded' : 'Failed';
}

function whyNotReady(container: ContainerView | undefined): { reason: string; message: string } | undefined {
  if (!container) return undefined;
  const { state } = container.process;
  if (state.t === 'waiting') return { reason: state.reason, message: state.message };
  if (state.t === 'ended')
    return { reason: state.exit.code === 0 ? 'PodCompleted' : 'Error', message: `exit code ${state.exit.code}` };
  return { reason: 'ContainersNotReady', message: `${container.name}: ${container.notReady ?? 'not ready'}` };
}

function containerStatus({ name, image, process, ready }: ContainerView): Record<string, unknown> {
  const { state, lastExit, restarts } = process;
  const ended = (exit: NonNullable<typeof lastExit>): Record<string, unknown> => ({
    terminated: {
      exitCode: exit.code,
      reason: exit.code === 0 ? 'Completed' : 'Error',
      startedAt: new Date(exit.startedAt).toISOString(),
      finishedAt: new Date(exit.finishedAt).toISOString(),
    },
  });
  let current: Record<string, unknown>;
  if (state.t === 'running') current = { running: { startedAt: new Date(state.startedAt).toISOString() } };
  else if (state.t === 'ended') current = ended(state.exit);
  else current = { waiting: { reason: state.reason, ...(state.message !== '' && { message: state.message }) } };
  return {
    name,
    image,
    ready,
    started: state.t === 'running',
    restartCount: restarts,
    state: current,
    ...(state.t !== 'ended' && lastExit && { lastState: ended(lastExit) }),
  };
}
