// How near an endpoint is to a client, in the scopes that its service prefers (facts: ztunnel 9). Pure.
import type { LoadBalancing, Scope, Workload } from './model.ts';

/** Higher is preferred, and only the highest that is usable takes connections; undefined: never. */
export function rankOf(balancing: LoadBalancing | undefined, source: Workload, workload: Workload): number | undefined {
  const preferences = balancing?.preferences ?? [];
  switch (balancing?.mode) {
    case 'Strict':
      return preferences.every((scope) => inScope(scope, source, workload)) ? 0 : undefined;
    case 'Failover':
      return closeness(preferences, source, workload);
    case 'Standard':
    case 'Passthrough':
    case undefined:
      return 0;
  }
}

/** Whether every endpoint is as near to one as to the other. */
export function samePlace(a: Workload, b: Workload): boolean {
  return (
    a.network === b.network &&
    a.node === b.node &&
    a.clusterId === b.clusterId &&
    a.locality.region === b.locality.region &&
    a.locality.zone === b.locality.zone &&
    a.locality.subzone === b.locality.subzone
  );
}

/** How many leading scopes match. A leading NETWORK stands apart: matching it outranks everything, missing it is skipped over. */
function closeness(preferences: readonly Scope[], source: Workload, workload: Workload): number {
  const [first, ...others] = preferences;
  if (first !== 'NETWORK') return prefixLength(preferences, source, workload);
  const rest = prefixLength(others, source, workload);
  return inScope(first, source, workload) ? preferences.length + rest : rest;
}

function prefixLength(scopes: readonly Scope[], source: Workload, workload: Workload): number {
  const miss = scopes.findIndex((scope) => !inScope(scope, source, workload));
  return miss < 0 ? scopes.length : miss;
}

function inScope(scope: Scope, a: Workload, b: Workload): boolean {
  switch (scope) {
    case 'REGION':
      return a.locality.region === b.locality.region;
    case 'ZONE':
      return a.locality.zone === b.locality.zone;
    case 'SUBZONE':
      return a.locality.subzone === b.locality.subzone;
    case 'NODE':
      return a.node === b.node;
    case 'CLUSTER':
      return a.clusterId === b.clusterId;
    case 'NETWORK':
      return a.network === b.network;
  }
}
