// The pods of the path benchmark, as Kubernetes objects: the same three pods in an enrolled namespace and in one that is not.
// Pure: nothing to objects.
import { stringify } from 'yaml';

export const HTTP_PORT = 8080;
export const IPERF_PORT = 5201;
/** Rules of the L4 policy that every connection to an enrolled pod is checked against. */
const RULES = 100;

/** `client` and `near` are on one node, `far` on the other. */
export const PODS = { client: 'node-1', near: 'node-1', far: 'node-2' } as const;
export type PodName = keyof typeof PODS;
/** `mesh` is enrolled, `plain` is not. */
export const NAMESPACES = ['mesh', 'plain'] as const;
export type Namespace = (typeof NAMESPACES)[number];

/** Files of the lab's folder by name. */
export function topologyFiles(): Record<string, string> {
  const objects = [
    namespace('mesh', { 'istio.io/dataplane-mode': 'ambient' }),
    namespace('plain', {}),
    policy(),
    ...NAMESPACES.flatMap((name) =>
      (Object.keys(PODS) as PodName[]).flatMap((pod) => [serviceAccount(name, pod), podOf(name, pod)]),
    ),
  ];
  return { 'path.yaml': objects.map((object) => stringify(object)).join('---\n'), 'nginx.conf': NGINX };
}

function namespace(name: string, labels: Record<string, string>): object {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
}

function serviceAccount(namespace: Namespace, name: PodName): object {
  return { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } };
}

/** The rules that let the clients in come last, after all that do not match. */
function policy(): object {
  const strangers = Array.from({ length: RULES - 2 }, (_, index) => ({
    from: [{ source: { principals: [`cluster.local/ns/other/sa/stranger-${index}`] } }],
    to: [{ operation: { ports: [String(HTTP_PORT), String(IPERF_PORT)] } }],
  }));
  const client = { from: [{ source: { principals: ['cluster.local/ns/mesh/sa/client'] } }] };
  const plaintext = { from: [{ source: { ipBlocks: ['10.244.0.0/16'] } }] };
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'hundred-rules', namespace: 'mesh' },
    spec: { action: 'ALLOW', rules: [...strangers, client, plaintext] },
  };
}

function podOf(namespace: Namespace, name: PodName): object {
  const servers = [
    {
      name: 'http',
      image: 'nginx',
      command: ['sh', '-c', 'exec nginx -p "$TMPDIR" -c "$PWD/nginx.conf"'],
      ports: [{ containerPort: HTTP_PORT }],
      readinessProbe: { tcpSocket: { port: HTTP_PORT } },
    },
    { name: 'iperf', image: 'iperf3', command: ['iperf3', '-s', '-p', String(IPERF_PORT)] },
  ];
  const client = [{ name: 'client', image: 'shell', command: ['sleep', '1000000'] }];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: { app: name } },
    spec: { nodeName: PODS[name], serviceAccountName: name, containers: name === 'client' ? client : servers },
  };
}

const NGINX = `daemon off;
user root;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
worker_rlimit_nofile 65536;
events { worker_connections 32768; multi_accept on; }
http {
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server { listen ${HTTP_PORT} backlog=4096; location / { return 200 "hello\\n"; } }
}
`;
