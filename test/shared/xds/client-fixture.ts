// A delta client for tests, and types to subscribe to.
import { create, toBinary } from '@bufbuild/protobuf';
import { AuthorizationSchema } from '#shared/gen/istio/security/authorization_pb.ts';
import { AddressSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { DeltaClient } from '#shared/xds/delta-client.ts';
import type { DeltaClientOptions } from '#shared/xds/delta-client.ts';
import { xdsNode } from '#shared/xds/node.ts';
import { resourceType } from '#shared/xds/resource-type.ts';
import type { Rejection, ResourceType } from '#shared/xds/resource-type.ts';
import type { AdsServer } from './ads-fixture.ts';

export const ADDRESS = 'type.googleapis.com/istio.workload.Address';
export const AUTHORIZATION = 'type.googleapis.com/istio.security.Authorization';

export function workload(name: string): Uint8Array {
  return toBinary(AddressSchema, create(AddressSchema, { type: { case: 'workload', value: { uid: name, name } } }));
}

/** A type that keeps its resources in a map and refuses what `refuse` says. */
export function addresses(refuse: (name: string) => string | undefined = () => undefined) {
  const held = new Map<string, string>();
  const type = resourceType(AddressSchema, {
    apply: ({ set, removed }) => {
      const rejections: Rejection[] = [];
      for (const { name, version } of set) {
        const reason = refuse(name);
        if (reason === undefined) held.set(name, version);
        else rejections.push({ name, reason });
      }
      for (const name of removed) held.delete(name);
      return rejections;
    },
  });
  return { held, type };
}

export function authorizations(): ResourceType<unknown> {
  return resourceType(AuthorizationSchema, { apply: () => [] });
}

const node = xdsNode({ kind: 'ztunnel', instanceIp: '10.0.0.1', podName: 'zt', podNamespace: 'sys', nodeName: 'n1' });

export function clientOf(
  server: AdsServer,
  options: Partial<DeltaClientOptions> = {},
): { client: DeltaClient; metrics: Metrics; lines: string[] } {
  const metrics = new Metrics();
  const lines: string[] = [];
  const log = new Logging({ sink: { write: (line) => lines.push(line) } }).scope('xds');
  const endpoint = { address: server.address, rootCert: '', clusterId: 'c1' };
  const client = new DeltaClient({ endpoint, node, log, metrics, backoff: { initial: 20, max: 50 }, ...options });
  return { client, metrics, lines };
}
