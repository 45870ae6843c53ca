// Which waypoint serves an object: its own label, else a waypoint of its namespace that names its service account, else the label of
// the namespace (docs/decisions/0003-waypoint-for-service-account.md).
import type { Gateway } from '#shared/kube/gateway-api.ts';
import type { Pod, Service } from '#shared/kube/kinds.ts';
import { matchesLabels } from '#shared/kube/selectors.ts';
import type { ObjectView } from '../store/store.ts';
import { USE_WAYPOINT, waypointRef } from './waypoints.ts';
import type { WaypointRef } from './waypoints.ts';

/** Annotation of a Gateway: it serves what runs as this service account in its namespace, without any label. */
export const FOR_SERVICE_ACCOUNT = 'culvert.dev/for-service-account';

/** The waypoint that `object` asks for, or that was deployed for its service account. */
export function boundWaypoint(object: Pod | Service, objects: ObjectView): WaypointRef | undefined {
  if (object.metadata.labels?.[USE_WAYPOINT] === undefined) {
    const own = serviceAccountWaypoint(object, objects);
    if (own) return { namespace: own.metadata.namespace, name: own.metadata.name };
  }
  return waypointRef(object, objects.get('Namespace', '', object.metadata.namespace));
}

/** Gateways of the namespace that name a service account: where there are some, a Pod's change may change a Service's binding. */
export function serviceAccountGateways(objects: ObjectView, namespace: string): readonly Gateway[] {
  return objects.list('Gateway', namespace).filter((gateway) => serviceAccountOf(gateway) !== undefined);
}

export function serviceAccountOf(gateway: Gateway): string | undefined {
  return gateway.metadata.annotations?.[FOR_SERVICE_ACCOUNT];
}

/** Of several for the same account the first by name, so that every replica decides alike. */
function serviceAccountWaypoint(object: Pod | Service, objects: ObjectView): Gateway | undefined {
  const candidates = serviceAccountGateways(objects, object.metadata.namespace);
  if (candidates.length === 0) return undefined;
  const account = object.kind === 'Pod' ? accountOf(object) : commonAccount(object, objects);
  if (account === undefined) return undefined;
  return candidates
    .filter((gateway) => serviceAccountOf(gateway) === account)
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))[0];
}

function accountOf(pod: Pod): string {
  return pod.spec?.serviceAccountName ?? 'default';
}

/** The account of every Pod that the Service selects; undefined when they differ or there is none. */
function commonAccount({ metadata, spec }: Service, objects: ObjectView): string | undefined {
  const selector = spec?.selector ?? {};
  if (Object.keys(selector).length === 0) return undefined;
  const pods = objects.list('Pod', metadata.namespace).filter((pod) => matchesLabels(selector, pod.metadata.labels));
  const accounts = new Set(pods.map(accountOf));
  const [account] = accounts;
  return accounts.size === 1 ? account : undefined;
}
