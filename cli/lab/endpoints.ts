// Which pods answer for a service port: a pure function over Services and Pods, shared by the node's DNAT rules and the DNS server.
import type { Pod, Service, ServicePort } from '#shared/kube/kinds.ts';
import { matchesLabels } from '#shared/kube/selectors.ts';

export interface Endpoint {
  ip: string;
  port: number;
}

/** Ready pods with an address that the selector matches. A Service without a selector has none. */
export function servicePods(service: Service, pods: readonly Pod[]): Pod[] {
  const selector = service.spec?.selector;
  if (!selector || Object.keys(selector).length === 0) return [];
  return pods.filter(
    (pod) =>
      pod.metadata.namespace === service.metadata.namespace &&
      matchesLabels(selector, pod.metadata.labels) &&
      pod.status?.podIP !== undefined &&
      (isReady(pod) || service.spec?.publishNotReadyAddresses === true),
  );
}

export function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}

export function portEndpoints(port: ServicePort, pods: readonly Pod[]): Endpoint[] {
  return pods.flatMap((pod) => {
    const number = targetPort(port, pod);
    return number === undefined || pod.status?.podIP === undefined ? [] : [{ ip: pod.status.podIP, port: number }];
  });
}

/** A named targetPort is looked up in the pod's containers. */
function targetPort(port: ServicePort, pod: Pod): number | undefined {
  const target: number | string = port.targetPort ?? port.port;
  const number = Number(target);
  if (Number.isInteger(number)) return number;
  for (const container of pod.spec?.containers ?? [])
    for (const { name, containerPort } of container.ports ?? []) if (name === target) return containerPort;
  return undefined;
}
