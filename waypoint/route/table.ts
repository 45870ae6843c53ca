// A route table as the router uses it. Built from a RouteConfiguration by xds/routes.ts.
import type { Headers, RequestHead } from '../http/request.ts';

export interface HeaderEdit {
  readonly name: string;
  readonly value: string;
  readonly how: 'append' | 'overwrite' | 'add-if-absent' | 'overwrite-if-exists';
}

export interface HeaderEdits {
  readonly set: readonly HeaderEdit[];
  readonly remove: readonly string[];
}

/** Edits of both heads, by one route or one share of it. */
export interface Edits {
  readonly request: HeaderEdits;
  readonly response: HeaderEdits;
}

export interface ClusterShare {
  readonly cluster: string;
  readonly weight: number;
  readonly edits: Edits;
}

export type RouteAction =
  | {
      readonly kind: 'forward';
      readonly shares: readonly ClusterShare[];
      readonly totalWeight: number;
      /** Path with query to the one that is sent. */
      readonly rewritePath: ((path: string) => string) | undefined;
      readonly rewriteHost: string | undefined;
      /** Milliseconds for the whole response; 0 is none. */
      readonly timeout: number;
      /** Answer when the cluster is unknown. */
      readonly clusterNotFound: number;
    }
  | {
      readonly kind: 'redirect';
      readonly status: number;
      readonly location: (head: RequestHead) => string;
    }
  | { readonly kind: 'direct'; readonly status: number; readonly body: string };

export interface Route {
  readonly name: string;
  readonly matches: (head: RequestHead) => boolean;
  readonly action: RouteAction;
  readonly edits: Edits;
}

export interface VirtualHost {
  readonly name: string;
  /** `*`, `*.suffix`, or exact in lower case. */
  readonly domains: readonly string[];
  readonly routes: readonly Route[];
}

export interface RouteTable {
  readonly name: string;
  readonly hosts: readonly VirtualHost[];
}

export const NO_EDITS: Edits = { request: { set: [], remove: [] }, response: { set: [], remove: [] } };

/** The first route that matches, in the virtual host that fits the authority best; undefined: 404. */
export function findRoute(table: RouteTable, head: RequestHead): Route | undefined {
  const routes = findHost(table, head.authority)?.routes ?? [];
  for (const route of routes) if (route.matches(head)) return route;
  return undefined;
}

function findHost({ hosts }: RouteTable, given: string): VirtualHost | undefined {
  const [only] = hosts;
  // A waypoint's tables: the service was chosen by the address.
  if (only && hosts.length === 1 && only.domains.length === 1 && only.domains[0] === '*') return only;
  const authority = given.toLowerCase();
  let best: VirtualHost | undefined;
  let bestLength = -1;
  for (const host of hosts) {
    for (const domain of host.domains) {
      if (domain === authority) return host;
      const suffix = domain.startsWith('*') ? domain.slice(1) : undefined;
      if (suffix === undefined || !authority.endsWith(suffix) || suffix.length <= bestLength) continue;
      best = host;
      bestLength = suffix.length;
    }
  }
  return best;
}

/** `random` in 0..1 chooses by weight. */
export function pickShare(shares: readonly ClusterShare[], totalWeight: number, random: number): ClusterShare | undefined {
  let left = random * totalWeight;
  for (const share of shares) {
    left -= share.weight;
    if (left < 0) return share;
  }
  return shares.at(-1);
}

export function applyEdits(headers: Headers, { set, remove }: HeaderEdits): void {
  for (const name of remove) headers.remove(name);
  for (const { name, value, how } of set) {
    if (how === 'append') headers.append(name, value);
    else if (how === 'overwrite') headers.set(name, value);
    else if (headers.has(name) === (how === 'overwrite-if-exists')) headers.set(name, value);
  }
}
