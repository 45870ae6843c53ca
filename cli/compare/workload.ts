// The application that both modes run: `services` Deployments of a small web server, spread over the nodes, the same in each mode
// but for the sidecar. Pure: options to objects.
import type { KubeObject } from '#shared/kube/object.ts';

export const APP_NAMESPACE = 'app';

export interface WorkloadOptions {
  pods: number;
  services: number;
  nodes: readonly string[];
  /** Undefined: ambient. */
  sidecar?: SidecarOptions | undefined;
}

export interface SidecarOptions {
  /** Envoy's binary. */
  envoy: string;
  /** On the machine: bootstrap and certificates, mounted into each sidecar. */
  folder: string;
}

/** As Istio's: the redirect rules leave this user's connections alone. */
const PROXY_UID = 1337;

/** Files of the application's folder, which the containers run from. */
export const APP_FILES: Readonly<Record<string, string>> = {
  'nginx.conf': `daemon off;
user root;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 128; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server { listen 8080; location / { return 200 "hello\\n"; } }
}
`,
  // What istio-init does: everything but the sidecar's own traffic goes through the sidecar.
  'redirect.nft': `table ip sidecar {
  chain output {
    type nat hook output priority -100; policy accept;
    meta skuid ${PROXY_UID} accept
    oifname "lo" accept
    ip daddr 127.0.0.0/8 accept
    meta l4proto tcp redirect to :15001
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    meta l4proto tcp tcp dport 8080 redirect to :15006
  }
}
`,
};

export function workloadObjects(options: WorkloadOptions): KubeObject[] {
  const labels = options.sidecar ? {} : { 'istio.io/dataplane-mode': 'ambient' };
  const namespace: KubeObject = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: APP_NAMESPACE, namespace: '', labels } };
  const services = Array.from({ length: options.services }, (_, index) => serviceName(index));
  return [
    namespace,
    ...services.flatMap((name, index) => {
      const replicas = podsOf(options, index);
      return [service(name), ...Array.from({ length: replicas }, (_each, copy) => pod(name, copy, options))];
    }),
  ];
}

/** Names of the services that have a pod. */
export function servedServices({ pods, services }: Pick<WorkloadOptions, 'pods' | 'services'>): string[] {
  return Array.from({ length: Math.min(pods, services) }, (_, index) => serviceName(index));
}

function serviceName(index: number): string {
  return `web-${index + 1}`;
}

function podsOf({ pods, services }: WorkloadOptions, index: number): number {
  return Math.floor(pods / services) + (index < pods % services ? 1 : 0);
}

function service(name: string): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: APP_NAMESPACE },
    spec: { selector: { app: name }, ports: [{ name: 'http', port: 80, targetPort: 8080, appProtocol: 'http' }] },
  };
}

function pod(name: string, copy: number, { nodes, services, sidecar }: WorkloadOptions): KubeObject {
  const index = Number(name.slice('web-'.length)) - 1 + copy * services;
  const app = {
    name: 'web',
    image: 'nginx',
    command: ['sh', '-c', 'exec nginx -p "$TMPDIR" -c "$PWD/nginx.conf"'],
    ports: [{ name: 'http', containerPort: 8080 }],
    ...(!sidecar && { readinessProbe: { tcpSocket: { port: 8080 } } }),
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `${name}-${copy}`,
      namespace: APP_NAMESPACE,
      // As Istio's injector labels a pod whose sidecar takes mTLS.
      labels: { app: name, ...(sidecar && { 'security.istio.io/tlsMode': 'istio' }) },
    },
    spec: {
      nodeName: nodes[index % nodes.length],
      ...(sidecar && {
        volumes: [{ name: 'sidecar', hostPath: { path: sidecar.folder } }],
        initContainers: [{ name: 'istio-init', image: 'nftables', command: ['nft', '-f', 'redirect.nft'] }],
      }),
      containers: sidecar ? [app, sidecarContainer(sidecar)] : [app],
    },
  };
}

function sidecarContainer({ envoy }: Pick<SidecarOptions, 'envoy'>): object {
  const field = (name: string, fieldPath: string): object => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  const node = '$(POD_IP)~$(POD_NAME).$(POD_NAMESPACE)~$(POD_NAMESPACE).svc.cluster.local';
  return {
    name: 'istio-proxy',
    image: 'envoy',
    // Two workers, as Istio's sidecar has by default.
    command: [
      envoy,
      '-c',
      '/etc/sidecar/envoy.json',
      '--service-node',
      `sidecar~${node}`,
      '--service-cluster',
      '$(POD_NAME)',
      '--concurrency',
      '2',
    ],
    args: ['--use-dynamic-base-id', '-l', 'warning'],
    env: [field('POD_IP', 'status.podIP'), field('POD_NAME', 'metadata.name'), field('POD_NAMESPACE', 'metadata.namespace')],
    volumeMounts: [{ name: 'sidecar', mountPath: '/etc/sidecar', readOnly: true }],
    securityContext: { runAsUser: PROXY_UID, runAsGroup: PROXY_UID },
    readinessProbe: { exec: { command: ['curl', '-sSf', '-m', '1', '-o', '/dev/null', 'http://127.0.0.1:15000/ready'] } },
  };
}
