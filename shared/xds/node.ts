// How a proxy names itself to a control plane (facts: ztunnel 8, control plane 2.3).
import type { JsonObject } from '@bufbuild/protobuf';

export interface XdsNode {
  /** `KIND~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN` */
  id: string;
  metadata: JsonObject;
}

export interface ProxyIdentity {
  kind: 'ztunnel' | 'waypoint' | 'sidecar' | 'router';
  /** Empty becomes 1.1.1.1. */
  instanceIp: string;
  podName: string;
  podNamespace: string;
  nodeName?: string | undefined;
  serviceAccount?: string | undefined;
  clusterId?: string | undefined;
  /** Default cluster.local. */
  clusterDomain?: string | undefined;
  /** More metadata, which wins over the above: `istioMetadata(process.env)`. */
  metadata?: JsonObject;
}

export function xdsNode(proxy: ProxyIdentity): XdsNode {
  const ip = proxy.instanceIp === '' ? '1.1.1.1' : proxy.instanceIp;
  const metadata: JsonObject = { NAME: proxy.podName, NAMESPACE: proxy.podNamespace, INSTANCE_IPS: ip };
  if (proxy.nodeName) metadata['NODE_NAME'] = proxy.nodeName;
  if (proxy.serviceAccount) metadata['SERVICE_ACCOUNT'] = proxy.serviceAccount;
  if (proxy.clusterId) metadata['CLUSTER_ID'] = proxy.clusterId;
  return {
    id: `${proxy.kind}~${ip}~${proxy.podName}.${proxy.podNamespace}~${proxy.podNamespace}.svc.${proxy.clusterDomain ?? 'cluster.local'}`,
    metadata: { ...metadata, ...proxy.metadata },
  };
}

/** `ISTIO_META_X=v` as `X: "v"` and `ISTIO_METAJSON_X=…` as the JSON value; a faulty JSON value stays text. */
export function istioMetadata(env: Readonly<Record<string, string | undefined>>): JsonObject {
  const metadata: JsonObject = {};
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined) continue;
    if (name.startsWith('ISTIO_META_')) metadata[name.slice('ISTIO_META_'.length)] = value;
    else if (name.startsWith('ISTIO_METAJSON_')) metadata[name.slice('ISTIO_METAJSON_'.length)] = parseJson(value);
  }
  return metadata;
}

function parseJson(text: string): JsonObject[string] {
  try {
    return JSON.parse(text) as JsonObject[string];
  } catch {
    return text;
  }
}
