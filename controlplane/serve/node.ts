// Who a proxy says it is: the node of its first request (facts: control plane 2.3). identity.ts checks that it may say so.
import { isIP } from 'node:net';
import { status } from '@grpc/grpc-js';
import type { JsonObject } from '@bufbuild/protobuf';
import type { Node } from '#shared/gen/envoy/config/core/v3/base_pb.ts';
import { RpcError } from './rpc-error.ts';

const KINDS = ['ztunnel', 'waypoint', 'sidecar', 'router'] as const;
export type ProxyKind = (typeof KINDS)[number];

/** Both are kept for the life of the stream. */
const MAX_ID = 1024;
const MAX_METADATA = 256 * 1024;

export interface ProxyNode {
  readonly id: string;
  readonly kind: ProxyKind;
  readonly ip: string;
  readonly podName: string;
  readonly namespace: string;
  /** '' when not told. */
  readonly serviceAccount: string;
  /** Of the Kubernetes node; '' when not told. */
  readonly nodeName: string;
  readonly metadata: JsonObject;
}

/** Throws INVALID_ARGUMENT when there is no node, or its id is not `KIND~IP~POD.NAMESPACE~DOMAIN`. */
export function parseNode(node: Node | undefined): ProxyNode {
  if (!node || node.id === '') throw new RpcError(status.INVALID_ARGUMENT, 'the first request has no node.id');
  const [kind, ip = '', pod = '', domain, ...rest] = node.id.split('~');
  const known = KINDS.find((each) => each === kind);
  if (!known || domain === undefined || rest.length > 0)
    throw new RpcError(
      status.INVALID_ARGUMENT,
      `node.id "${node.id.slice(0, 200)}" is not KIND~IP~POD.NAMESPACE~DOMAIN with KIND one of ${KINDS.join(', ')}`,
    );
  const metadata = node.metadata ?? {};
  if (node.id.length > MAX_ID || JSON.stringify(metadata).length > MAX_METADATA)
    throw new RpcError(
      status.INVALID_ARGUMENT,
      `the node is too large: an id of ${MAX_ID} and metadata of ${MAX_METADATA} characters at most`,
    );
  const text = (key: string): string => {
    const value = metadata[key];
    return typeof value === 'string' ? value : '';
  };
  const dot = pod.lastIndexOf('.');
  const [first = ''] = text('INSTANCE_IPS').split(',');
  return {
    id: node.id,
    kind: known,
    ip: isIP(first) > 0 ? first : ip,
    podName: dot < 0 ? pod : pod.slice(0, dot),
    namespace: text('NAMESPACE') || (dot < 0 ? '' : pod.slice(dot + 1)),
    serviceAccount: text('SERVICE_ACCOUNT'),
    nodeName: text('NODE_NAME'),
    metadata,
  };
}
