// May this caller be the proxy that it says it is? (facts: control plane 2.3)
import { status } from '@grpc/grpc-js';
import type { SpiffeId } from '#shared/ids.ts';
import type { ProxyNode } from './node.ts';
import { RpcError } from './rpc-error.ts';

/** A caller that proved who it is; on the plaintext port there is none. */
export interface AdsCaller {
  readonly identity: SpiffeId;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** What its token says of its pod. */
  readonly pod?: { readonly name: string };
}

/** Throws PERMISSION_DENIED when the node is of another namespace, service account or pod. */
export function checkNodeIdentity(node: ProxyNode, caller: AdsCaller): void {
  const refuse = (what: string, said: string): never => {
    throw new RpcError(status.PERMISSION_DENIED, `${caller.identity} is not of the ${what} that node ${node.id} says: ${said}`);
  };
  if (node.namespace !== caller.namespace) refuse('namespace', node.namespace);
  if (node.serviceAccount !== '' && node.serviceAccount !== caller.serviceAccount) refuse('service account', node.serviceAccount);
  if (caller.pod && caller.pod.name !== '' && node.podName !== caller.pod.name) refuse('pod', node.podName);
}
