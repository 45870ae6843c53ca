// Which node a pod goes to: its nodeName, else the least loaded node that its nodeSelector allows. A pure function.
import { MeshError } from '#shared/errors.ts';
import { matchesLabels } from '#shared/kube/selectors.ts';
import type { Pod } from '#shared/kube/kinds.ts';

export interface SchedulableNode {
  name: string;
  labels: Readonly<Record<string, string>>;
  unschedulable: boolean;
  /** Pods that are on it already. */
  pods: number;
}

/** The node's name; throws when no node fits. */
export function schedule(pod: Pod, nodes: readonly SchedulableNode[]): string {
  const { nodeName, nodeSelector = {} } = pod.spec ?? {};
  if (nodeName !== undefined) {
    if (nodes.some(({ name }) => name === nodeName)) return nodeName;
    throw new MeshError(
      'invalid_config',
      `spec.nodeName: there is no node ${nodeName}; nodes are ${nodes.map(({ name }) => name).join(', ')}`,
    );
  }
  let best: SchedulableNode | undefined;
  for (const node of nodes)
    if (!node.unschedulable && matchesLabels(nodeSelector, node.labels) && (!best || node.pods < best.pods)) best = node;
  if (best) return best.name;
  throw new MeshError('invalid_config', `spec.nodeSelector: no node has the labels ${JSON.stringify(nodeSelector)}`);
}
