// /debug/*: what each proxy has acknowledged, what is wrong with the configuration, what a proxy gets.
import { toJson } from '@bufbuild/protobuf';
import type { Registry } from '@bufbuild/protobuf';
import { AnySchema } from '@bufbuild/protobuf/wkt';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { fromBinary } from '@bufbuild/protobuf';
import { MeshError } from '#shared/errors.ts';
import { formatFault } from '#shared/kube/object.ts';
import { json } from '#shared/telemetry/admin-server.ts';
import type { AdminRequest, AdminRoute } from '#shared/telemetry/admin-server.ts';
import type { Pipeline } from './pipeline.ts';
import type { AdsServer } from './serve/ads-server.ts';
import type { AdsStream } from './serve/ads-stream.ts';
import type { GeneratorRegistry } from './serve/generator.ts';
import type { Subscription } from './serve/subscription.ts';
import { inPushOrder, shortType } from './serve/types.ts';
import type { EncodedResource } from './snapshot/resource-set.ts';

export interface DebugDeps {
  pipeline: Pipeline;
  ads: AdsServer;
  registry: GeneratorRegistry;
}

export function debugRoutes({ pipeline, ads, registry }: DebugDeps): AdminRoute[] {
  return [
    {
      path: '/debug/syncz',
      summary: 'proxies, and what each has acknowledged',
      handle: () =>
        json({ sequence: pipeline.snapshot.sequence, proxies: [...ads.streams].filter(({ node }) => node).map(proxyStatus) }),
    },
    {
      path: '/debug/faults',
      summary: 'faults of the configuration',
      handle: () => json(pipeline.faults.map((fault) => ({ ...fault, line: formatFault(fault) }))),
    },
    {
      path: '/debug/snapshot',
      summary: 'workloads, services and policies as ztunnels get them',
      handle: () => {
        const { sequence, addresses, authorizations } = pipeline.snapshot;
        const types = registry.all().map((generator) => generator.registry);
        const all = (resources: Iterable<EncodedResource>): unknown[] =>
          Array.from(resources, (resource) => shown(resource, types));
        return json({
          sequence,
          addresses: all(addresses.resources.values()),
          authorizations: all(authorizations.resources.values()),
        });
      },
    },
    {
      path: '/debug/config_dump',
      summary: 'everything that one proxy gets: ?proxyID=POD.NAMESPACE',
      handle: (request) => json(configDump(request, { pipeline, ads, registry })),
    },
  ];
}

/** Localhost and the Unix socket are free; from elsewhere `allow` decides by the Authorization header. */
export function guarded(route: AdminRoute, allow: (authorization: string) => Promise<boolean>): AdminRoute {
  return {
    ...route,
    handle: async (request) => {
      const local = request.remote === '' || /^(::ffff:)?127\.|^::1$/u.test(request.remote);
      if (local || (await allow(request.headers.authorization ?? ''))) return route.handle(request);
      return { status: 403, body: 'this page is for the mesh administrator: use localhost, or a token of the root namespace\n' };
    },
  };
}

function proxyStatus(stream: AdsStream): object {
  const { node, caller, protocol, peer, connected } = stream;
  return {
    proxy: node && `${node.podName}.${node.namespace}`,
    id: node?.id,
    kind: node?.kind,
    nodeName: node?.nodeName,
    identity: caller?.identity,
    protocol,
    peer,
    connected: new Date(connected).toISOString(),
    types: Object.fromEntries(
      stream.subscriptions.map((subscription) => [shortType(subscription.typeUrl), typeStatus(subscription)]),
    ),
  };
}

/** Sequences are those of snapshots: a proxy whose `acked` is its `sent` has all that concerns it. */
function typeStatus({ typeUrl, status, owed }: Subscription): object {
  const { sent, acked, nacked, nonceSent, nonceAcked } = status;
  const state = nacked ? 'NACKED' : sent === 0 ? 'NOT SENT' : nonceSent === nonceAcked && !owed ? 'SYNCED' : 'STALE';
  return { typeUrl, state, sent, acked, ...(nacked && { nacked }) };
}

function configDump({ url }: AdminRequest, { pipeline, ads, registry }: DebugDeps): object {
  const wanted = url.searchParams.get('proxyID');
  if (wanted === null) throw new MeshError('bad_request', 'say which proxy: ?proxyID=POD.NAMESPACE');
  const stream = [...ads.streams].find(({ node }) => node?.id === wanted || `${node?.podName}.${node?.namespace}` === wanted);
  const { node } = stream ?? {};
  if (!stream || !node) throw new MeshError('not_found', `no proxy ${wanted} is connected`);
  const types = stream.subscriptions.map(({ typeUrl }) => typeUrl).sort(inPushOrder);
  const configs = types.map((typeUrl) => {
    const generator = registry.find(node.kind, typeUrl);
    const resources = generator?.generate(pipeline.snapshot, node, typeUrl).resources.values() ?? [];
    return { typeUrl, resources: Array.from(resources, (resource) => shown(resource, generator ? [generator.registry] : [])) };
  });
  return { proxy: wanted, id: node.id, sequence: pipeline.snapshot.sequence, configs };
}

/** A resource in JSON, with the version that proxies know it by. */
function shown({ name, version, sotwFrame }: EncodedResource, registries: readonly Registry[]): object {
  const reader = new BinaryReader(sotwFrame);
  reader.tag();
  const any = fromBinary(AnySchema, reader.bytes());
  for (const registry of registries) {
    if (!registry.getMessage(any.typeUrl.slice(any.typeUrl.lastIndexOf('/') + 1))) continue;
    try {
      return { name, version, resource: toJson(AnySchema, any, { registry }) };
    } catch (error) {
      return { name, version, error: MeshError.from(error).message };
    }
  }
  return { name, version, typeUrl: any.typeUrl };
}
