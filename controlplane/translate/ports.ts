// Ports of Services: which application protocol they say, and where they lead in a Pod.
import { create } from '@bufbuild/protobuf';
import { AppProtocol, PortSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import type { Port } from '#shared/gen/istio/workload/workload_pb.ts';
import type { Pod, ServicePort } from '#shared/kube/kinds.ts';

const BY_APP_PROTOCOL: ReadonlyMap<string, AppProtocol> = new Map(
  Object.entries({
    http: AppProtocol.HTTP11,
    'kubernetes.io/ws': AppProtocol.HTTP11,
    http2: AppProtocol.HTTP2,
    'kubernetes.io/h2c': AppProtocol.HTTP2,
    grpc: AppProtocol.GRPC,
    'grpc-web': AppProtocol.GRPC,
    tcp: AppProtocol.TCP,
    mongo: AppProtocol.TCP,
    mysql: AppProtocol.TCP,
    redis: AppProtocol.TCP,
    https: AppProtocol.TLS,
    tls: AppProtocol.TLS,
    'kubernetes.io/wss': AppProtocol.TLS,
  }),
);

/** `appProtocol`, else the port's name or the part of it before the first `-`; unknown is for the proxy to detect. */
export function appProtocol(port: ServicePort): AppProtocol {
  if ((port.protocol ?? 'TCP') !== 'TCP') return AppProtocol.UNKNOWN;
  if (port.appProtocol !== undefined) return BY_APP_PROTOCOL.get(port.appProtocol.toLowerCase()) ?? AppProtocol.UNKNOWN;
  const name = (port.name ?? '').toLowerCase();
  const known = name.startsWith('grpc-web') ? 'grpc-web' : (name.split('-')[0] ?? '');
  return BY_APP_PROTOCOL.get(known) ?? AppProtocol.UNKNOWN;
}

/** The port as a Service shows it; a named target is 0, because each workload has its own number for it. */
export function servicePort(port: ServicePort): Port {
  return create(PortSchema, { servicePort: port.port, targetPort: fixedTarget(port) ?? 0, appProtocol: appProtocol(port) });
}

/** The port as one Pod has it; undefined when the Pod has no port of the target's name. */
export function workloadPort(port: ServicePort, pod: Pod): Port | undefined {
  const targetPort = fixedTarget(port) ?? namedPort(pod, String(port.targetPort));
  if (targetPort === undefined) return undefined;
  return create(PortSchema, { servicePort: port.port, targetPort, appProtocol: appProtocol(port) });
}

function fixedTarget({ targetPort, port }: ServicePort): number | undefined {
  if (targetPort === undefined || targetPort === 0) return port;
  return typeof targetPort === 'number' ? targetPort : undefined;
}

/** TCP ports of containers, then of init containers that go on running. */
function namedPort(pod: Pod, name: string): number | undefined {
  const sidecars = (pod.spec?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always');
  for (const { ports = [] } of [...(pod.spec?.containers ?? []), ...sidecars]) {
    const found = ports.find((port) => port.name === name && (port.protocol ?? 'TCP') === 'TCP');
    if (found) return found.containerPort;
  }
  return undefined;
}
