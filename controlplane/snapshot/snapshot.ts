// One immutable state of the mesh, as every stream sees it. Builder.ts makes the next one from the last.
import type { Service, Workload } from '#shared/gen/istio/workload/workload_pb.ts';
import type { ObjectFault } from '#shared/kube/object.ts';
import type { ObjectView } from '../store/store.ts';
import type { MeshSettings } from '../translate/settings.ts';
import type { ResourceSet } from './resource-set.ts';

export interface Snapshot {
  /** Counts up from 1; 0 is the empty one before the first. */
  readonly sequence: number;
  /** When the first change that it holds came, ms of the monotonic clock. */
  readonly changed: number;
  readonly settings: MeshSettings;
  /** `istio.workload.Address` */
  readonly addresses: ResourceSet;
  /** `istio.security.Authorization` */
  readonly authorizations: ResourceSet;
  /** By UID. */
  readonly workloads: ReadonlyMap<string, Workload>;
  /** By `NAMESPACE/HOSTNAME`. */
  readonly services: ReadonlyMap<string, Service>;
  /** The objects that this state was made from. */
  readonly objects: ObjectView;
  /** References to nothing and parts of objects that have no effect. */
  readonly faults: readonly ObjectFault[];
}
