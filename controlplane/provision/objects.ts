// The objects of one waypoint, as a pure function of its Gateway: ServiceAccount, Deployment, Service.
import type { Gateway } from '#shared/kube/gateway-api.ts';
import type { KubeObject, ObjectMeta } from '#shared/kube/object.ts';
import { PORT } from '#shared/ports.ts';
import { GATEWAY_NAME } from '../translate/waypoints.ts';
import { MANAGED_BY, MANAGED_LABEL, SERVICE_ACCOUNT } from './names.ts';

export interface WaypointSettings {
  /** `https://HOST:15012` as proxies dial it. */
  readonly publicAddress: string;
  readonly trustDomain: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  /** Container image. */
  readonly image: string;
}

const ROOT_CERT_DIR = '/var/run/secrets/istio';
const TOKEN_DIR = '/var/run/secrets/tokens';
const TOKEN_SECONDS = 43_200;

/** `name`: of waypointName(). */
export function waypointObjects(gateway: Gateway, name: string, settings: WaypointSettings): KubeObject[] {
  const account = gateway.metadata.annotations?.[SERVICE_ACCOUNT];
  const metadata = generatedMeta(gateway, name);
  const objects: KubeObject[] = [deployment(metadata, account ?? name, settings), service(metadata)];
  return account === undefined ? [{ apiVersion: 'v1', kind: 'ServiceAccount', metadata }, ...objects] : objects;
}

function generatedMeta(gateway: Gateway, name: string): ObjectMeta & { labels: Record<string, string> } {
  const { namespace, uid } = gateway.metadata;
  const owner = { apiVersion: gateway.apiVersion, kind: 'Gateway', name: gateway.metadata.name, controller: true };
  return {
    name,
    namespace,
    labels: {
      ...gateway.spec?.infrastructure?.labels,
      [GATEWAY_NAME]: gateway.metadata.name,
      [MANAGED_LABEL]: MANAGED_BY,
    },
    ownerReferences: [uid === undefined ? owner : { ...owner, uid }],
  };
}

function deployment(metadata: ReturnType<typeof generatedMeta>, account: string, settings: WaypointSettings): KubeObject {
  const selector = { [GATEWAY_NAME]: metadata.labels[GATEWAY_NAME] ?? '' };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata,
    spec: {
      selector: { matchLabels: selector },
      template: {
        metadata: {
          labels: {
            ...metadata.labels,
            'istio.io/dataplane-mode': 'none',
            'networking.istio.io/tunnel': 'http',
            'service.istio.io/canonical-name': metadata.name,
            'service.istio.io/canonical-revision': 'latest',
          },
          annotations: {
            'prometheus.io/path': '/stats/prometheus',
            'prometheus.io/port': String(PORT.metrics),
            'prometheus.io/scrape': 'true',
          },
        },
        spec: {
          serviceAccountName: account,
          terminationGracePeriodSeconds: 10,
          containers: [container(settings)],
          volumes: [
            { name: 'istio-ca-root-cert', configMap: { name: 'istio-ca-root-cert' } },
            {
              name: 'istio-token',
              projected: {
                sources: [
                  { serviceAccountToken: { audience: 'istio-ca', expirationSeconds: TOKEN_SECONDS, path: 'istio-token' } },
                ],
              },
            },
          ],
        },
      },
    },
  };
}

function container(settings: WaypointSettings): unknown {
  const field = (name: string, fieldPath: string): unknown => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  const value = (name: string, text: string): unknown => ({ name, value: text });
  return {
    name: 'waypoint',
    image: settings.image,
    args: ['waypoint'],
    env: [
      field('POD_NAME', 'metadata.name'),
      field('POD_NAMESPACE', 'metadata.namespace'),
      field('SERVICE_ACCOUNT', 'spec.serviceAccountName'),
      field('INSTANCE_IP', 'status.podIP'),
      field('NODE_NAME', 'spec.nodeName'),
      value('XDS_ADDRESS', settings.publicAddress),
      value('CA_ADDRESS', settings.publicAddress),
      value('XDS_ROOT_CA', `${ROOT_CERT_DIR}/root-cert.pem`),
      value('CA_ROOT_CA', `${ROOT_CERT_DIR}/root-cert.pem`),
      value('AUTH_TOKEN', `${TOKEN_DIR}/istio-token`),
      value('TRUST_DOMAIN', settings.trustDomain),
      value('CLUSTER_ID', settings.clusterId),
      value('CLUSTER_DOMAIN', settings.clusterDomain),
    ],
    ports: [
      { name: 'mesh', containerPort: PORT.hbone },
      { name: 'metrics', containerPort: PORT.metrics },
      { name: 'status-port', containerPort: PORT.readiness },
    ],
    readinessProbe: { httpGet: { path: '/healthz/ready', port: PORT.readiness }, periodSeconds: 1, failureThreshold: 4 },
    resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { cpu: '2', memory: '1Gi' } },
    volumeMounts: [
      { name: 'istio-ca-root-cert', mountPath: ROOT_CERT_DIR, readOnly: true },
      { name: 'istio-token', mountPath: TOKEN_DIR, readOnly: true },
    ],
  };
}

function service(metadata: ReturnType<typeof generatedMeta>): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { ...metadata, annotations: { 'networking.istio.io/traffic-distribution': 'PreferClose' } },
    spec: {
      type: 'ClusterIP',
      selector: { [GATEWAY_NAME]: metadata.labels[GATEWAY_NAME] ?? '' },
      ports: [
        { name: 'mesh', port: PORT.hbone, protocol: 'TCP', appProtocol: 'hbone' },
        { name: 'status-port', port: PORT.readiness, protocol: 'TCP', appProtocol: 'http' },
      ],
    },
  };
}
