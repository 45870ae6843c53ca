// ZDS messages as ztunnel means them: one protobuf per packet, the namespace descriptor of an added pod beside it.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { MeshError } from '#shared/errors.ts';
import type { WorkloadRequest } from '#shared/gen/istio/zds/zds_pb.ts';
import { Version, WorkloadRequestSchema, WorkloadResponseSchema, ZdsHelloSchema } from '#shared/gen/istio/zds/zds_pb.ts';
import { closeFd } from '#shared/os/netns.ts';
import type { FdMessage } from '#shared/os/fd-message.ts';
import type { PodIdentity } from '../state/workloads.ts';

export type ZdsRequest =
  /** The receiver owns and closes `netns`. */
  | { readonly kind: 'add'; readonly uid: string; readonly who: PodIdentity; readonly netns: number }
  | { readonly kind: 'keep' | 'del'; readonly uid: string }
  | { readonly kind: 'snapshot-sent' };

export function helloMessage(): Uint8Array {
  return toBinary(ZdsHelloSchema, create(ZdsHelloSchema, { version: Version.V1 }));
}

/** Bytes of an error. Istio's agent reads answers into 1024 bytes, and ends the session over a longer one. */
const MAX_ERROR = 1000;

/** `error` empty: accepted. */
export function ackMessage(error: string): Uint8Array {
  const value = { error: Buffer.from(error).subarray(0, MAX_ERROR).toString() };
  return toBinary(WorkloadResponseSchema, create(WorkloadResponseSchema, { payload: { case: 'ack', value } }));
}

/** Throws `protocol_error`; then every descriptor of the message is closed. */
export function parseRequest(message: FdMessage): ZdsRequest {
  const { fds } = message;
  try {
    return understand(message);
  } catch (thrown) {
    for (const fd of fds) closeFd(fd);
    throw MeshError.from(thrown, 'protocol_error');
  }
}

function understand({ data, fds, truncated }: FdMessage): ZdsRequest {
  if (truncated)
    throw new MeshError('protocol_error', 'a message was longer than the buffer or carried more than one descriptor');
  const { payload } = decode(data);
  if (payload.case !== 'add' && fds.length > 0)
    throw new MeshError('protocol_error', `${payload.case ?? 'empty'} message with a descriptor`);
  switch (payload.case) {
    case 'add': {
      const { uid, workloadInfo } = payload.value;
      const [netns] = fds;
      if (uid === '') throw new MeshError('protocol_error', 'add: uid is empty');
      if (!workloadInfo) throw new MeshError('protocol_error', `add ${uid}: workload_info is missing`);
      if (netns === undefined) throw new MeshError('protocol_error', `add ${uid}: no network namespace descriptor came with it`);
      const { name, namespace, serviceAccount } = workloadInfo;
      return { kind: 'add', uid, who: { name, namespace, serviceAccount }, netns };
    }
    case 'keep':
    case 'del':
      return { kind: payload.case, uid: payload.value.uid };
    case 'snapshotSent':
      return { kind: 'snapshot-sent' };
    case undefined:
      throw new MeshError('protocol_error', 'a request without a payload that is known here');
  }
}

function decode(data: Uint8Array): WorkloadRequest {
  try {
    return fromBinary(WorkloadRequestSchema, data);
  } catch (thrown) {
    throw new MeshError('protocol_error', `not a WorkloadRequest: ${MeshError.from(thrown).message}`, { cause: thrown });
  }
}
