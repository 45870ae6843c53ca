// What a comparison found. `-o json` prints it as it is.
import type { MemoryReading } from './memory-reading.ts';

export interface ProxyMemory extends MemoryReading {
  component: 'ztunnel' | 'cni-agent' | 'sidecar';
  node: string;
  pid: number;
  /** The executable. */
  program: string;
  /** `NAMESPACE/NAME` of the pod that it belongs to; node programs have none. */
  pod?: string;
}

export interface ModeMemory {
  processes: ProxyMemory[];
  /** Sum of the processes' proportional shares, bytes. */
  pss: number;
  /** Bytes of each node, as if its processes shared with nothing else. */
  perNode: Record<string, number>;
  /** Sum of the nodes, bytes. */
  total: number;
}

export interface MemoryStep {
  pods: number;
  ambient: ModeMemory;
  sidecar: ModeMemory;
}

/** Bytes of all nodes together for `n` pods: `base + perPod * n`, fitted over the measured steps. */
export interface Growth {
  base: number;
  perPod: number;
}

export interface MemoryComparison {
  nodes: number;
  services: number;
  steps: MemoryStep[];
  growth: { ambient: Growth; sidecar: Growth };
  /** Share that ambient saves at the largest number of pods: of node totals and of PSS; negative when it takes more. */
  saving: { total: number; pss: number };
  /** Pods per node from which ambient takes less, by the fitted growth; undefined when it never does. */
  evenAt?: number | undefined;
  excluded: string[];
}

/** Said with every result, as a comparison is worth as much as what it leaves out. */
export const EXCLUDED: readonly string[] = [
  'the applications themselves, which are the same in both modes',
  'the control plane, which both modes need',
  "Istio's pilot-agent, which would run beside each Envoy and add to sidecar mode",
  'memory of the kernel: sockets, connection tracking, network namespaces',
  'waypoints: ambient mode has them only where L7 features are wanted; sidecars always carry them',
];

export function compareSteps(nodes: number, services: number, steps: MemoryStep[]): MemoryComparison {
  const last = steps.at(-1);
  const fitted = (mode: 'ambient' | 'sidecar'): Growth =>
    fit(steps.map((step) => ({ pods: step.pods, total: step[mode].total })));
  const growth = { ambient: fitted('ambient'), sidecar: fitted('sidecar') };
  const perPod = growth.sidecar.perPod - growth.ambient.perPod;
  return {
    nodes,
    services,
    steps,
    growth,
    saving: {
      total: last ? 1 - last.ambient.total / last.sidecar.total : 0,
      pss: last ? 1 - last.ambient.pss / last.sidecar.pss : 0,
    },
    ...(perPod > 0 && { evenAt: Math.max(1, Math.ceil((growth.ambient.base - growth.sidecar.base) / perPod / nodes)) }),
    excluded: [...EXCLUDED],
  };
}

/** The least-squares line; through zero when there is one point only. */
function fit(points: readonly { pods: number; total: number }[]): Growth {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const x = mean(points.map(({ pods }) => pods));
  const y = mean(points.map(({ total }) => total));
  const spread = points.reduce((sum, { pods }) => sum + (pods - x) ** 2, 0);
  if (spread === 0) return { base: 0, perPod: y / Math.max(1, x) };
  const perPod = points.reduce((sum, { pods, total }) => sum + (pods - x) * (total - y), 0) / spread;
  return { base: y - perPod * x, perPod };
}
