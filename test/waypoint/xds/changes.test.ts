// The configuration of a thread that follows, or that comes later.
import { toBinary } from '@bufbuild/protobuf';
import { test } from 'tap';
import { AppProtocol } from '#shared/gen/istio/workload/workload_pb.ts';
import { waypointResources } from '../../../controlplane/translate/envoy/waypoint.ts';
import { applyChanges, type ConfigChange, ConfigLog, KINDS, type ResourceKind } from '../../../waypoint/xds/changes.ts';
import { ConfigStore } from '../../../waypoint/xds/config-store.ts';
import { aMesh, aScope, aService, aWorkload } from '../../controlplane/translate/envoy/mesh.ts';

/** What the control plane sends for a service with one pod, by kind. */
function changes(name: string): Record<ResourceKind, ConfigChange[]> {
  const service = aService({ name, vip: '10.96.0.1', ports: [{ port: 80, target: 8080, protocol: AppProtocol.HTTP11 }] });
  const made = waypointResources(
    aMesh({ services: [service], workloads: [aWorkload({ name: `${name}-0`, ip: '10.0.0.1', service })] }),
    aScope({ services: [service] }),
  );
  const of = (kind: ResourceKind, resources: readonly { name?: string; clusterName?: string }[]): ConfigChange[] =>
    resources.map((resource) => ({
      kind,
      name: resource.name ?? resource.clusterName ?? '',
      bytes: toBinary(KINDS[kind].schema, resource as never),
    }));
  return {
    cluster: of('cluster', made.clusters),
    endpoints: of('endpoints', made.endpoints),
    listener: of('listener', made.listeners),
    routes: of('routes', made.routes),
  };
}

const gone = ({ kind, name }: ConfigChange): ConfigChange => ({ kind, name, bytes: undefined });

test('a thread that starts later has the same configuration as one that followed', async (t) => {
  const followed = new ConfigStore();
  const log = new ConfigLog();
  const [first, second] = [changes('echo'), changes('catalog')];
  // In the order of the control plane; the second service replaces the first.
  const batches = [
    ...[first, second].flatMap(({ cluster, endpoints, listener, routes }) => [cluster, endpoints, listener, routes]),
    first.cluster.filter(({ name }) => !second.cluster.some((other) => other.name === name)).map(gone),
  ];
  for (const batch of batches) {
    applyChanges(followed, batch);
    log.add(batch);
    log.keep(followed);
  }
  const later = new ConfigStore();
  applyChanges(later, log.all());
  t.strictSame(later.warming(), []);
  t.ok(JSON.stringify(followed.dump()).includes('catalog'));
  const sorted = (store: ConfigStore): string[] => JSON.stringify(store.dump()).split('').sort();
  t.strictSame(sorted(later), sorted(followed));
  t.notOk(
    log.all().some(({ name }) => name.includes('echo')),
    'what nothing refers to is forgotten',
  );
});
