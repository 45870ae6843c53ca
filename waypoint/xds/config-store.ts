// The configuration in effect, and what waits to become it. A cluster takes effect with its endpoints, a listener with the route
// tables that its chains name: until then the one before it goes on serving.
import { formatHostPort, type HostPort } from '#shared/address.ts';
import type { Cluster, Endpoint, EndpointAddress } from '../cluster/cluster.ts';
import { createPicker, type Picker } from '../cluster/picker.ts';
import type { LiveCluster } from '../http/router.ts';
import type { Listener } from '../listener/listener.ts';
import type { RouteTable } from '../route/table.ts';

class Live implements LiveCluster {
  readonly config: Cluster;
  readonly endpoints: readonly Endpoint[];
  readonly #picker: Picker;
  /** Connection keys of endpoints that are always reached at one address. */
  readonly #keys = new Map<Endpoint, string>();

  constructor(config: Cluster, endpoints: readonly Endpoint[]) {
    this.config = config;
    this.endpoints = endpoints;
    this.#picker = createPicker(config.lbPolicy, endpoints);
  }

  pick(): Endpoint | undefined {
    return this.#picker.pick();
  }

  connectionKey(endpoint: Endpoint, destination: HostPort): string {
    const { address } = endpoint;
    const fixed = address.kind === 'tcp' ? address.to : address.destination;
    if (this.config.discovery === 'original-dst' || !fixed) return this.#key(address, destination);
    let key = this.#keys.get(endpoint);
    if (key === undefined) this.#keys.set(endpoint, (key = this.#key(address, fixed)));
    return key;
  }

  #key({ kind }: EndpointAddress, to: HostPort): string {
    return `${this.config.name} ${kind} ${formatHostPort(to)}`;
  }
}

/** The one endpoint of a cluster that leads wherever the client meant to go. */
function originalDestination(): Endpoint {
  return {
    address: { kind: 'internal', listener: '', destination: undefined },
    label: '',
    weight: 1,
    identity: undefined,
    workload: undefined,
    active: 0,
  };
}

export class ConfigStore {
  readonly #clusters = new Map<string, Cluster>();
  readonly #endpoints = new Map<string, readonly Endpoint[]>();
  readonly #listeners = new Map<string, Listener>();
  readonly #routes = new Map<string, RouteTable>();
  readonly #liveClusters = new Map<string, Live>();
  readonly #liveListeners = new Map<string, Listener>();
  #version = 0;

  cluster(name: string): LiveCluster | undefined {
    return this.#liveClusters.get(name);
  }

  listener(name: string): Listener | undefined {
    return this.#liveListeners.get(name);
  }

  routes(name: string): RouteTable | undefined {
    return this.#routes.get(name);
  }

  /** Grows with every change. */
  get version(): number {
    return this.#version;
  }

  get listeners(): Iterable<Listener> {
    return this.#liveListeners.values();
  }

  setCluster(cluster: Cluster): void {
    this.#version += 1;
    this.#clusters.set(cluster.name, cluster);
    this.#warmCluster(cluster);
  }

  removeCluster(name: string): void {
    this.#version += 1;
    this.#clusters.delete(name);
    this.#liveClusters.delete(name);
  }

  setEndpoints(name: string, endpoints: readonly Endpoint[]): void {
    this.#version += 1;
    this.#endpoints.set(name, keepActive(endpoints, this.#endpoints.get(name) ?? []));
    for (const cluster of this.#clusters.values()) if (cluster.edsName === name) this.#warmCluster(cluster);
  }

  setRoutes(table: RouteTable): void {
    this.#version += 1;
    this.#routes.set(table.name, table);
    this.#warmListeners();
  }

  removeRoutes(name: string): void {
    this.#version += 1;
    this.#routes.delete(name);
  }

  setListener(listener: Listener): void {
    this.#version += 1;
    this.#listeners.set(listener.name, listener);
    this.#warmListeners();
  }

  removeListener(name: string): void {
    this.#version += 1;
    this.#listeners.delete(name);
    this.#liveListeners.delete(name);
  }

  /** Names that the clusters want endpoints for. */
  endpointNames(): Set<string> {
    return new Set(
      [...this.#clusters.values()].filter((cluster) => cluster.discovery === 'eds').map((cluster) => cluster.edsName),
    );
  }

  /** Route tables that any listener, in effect or waiting, refers to. */
  routeNames(): Set<string> {
    return new Set([...this.#listeners.values(), ...this.#liveListeners.values()].flatMap(routesOf));
  }

  /** Forgets endpoints and tables that nothing refers to any more. */
  sweep(): void {
    const endpoints = this.endpointNames();
    for (const name of this.#endpoints.keys()) if (!endpoints.has(name)) this.#endpoints.delete(name);
    const routes = this.routeNames();
    for (const name of this.#routes.keys()) if (!routes.has(name)) this.#routes.delete(name);
  }

  /** What waits, by name: for readiness and the admin pages. */
  warming(): string[] {
    const clusters = [...this.#clusters.values()].filter((cluster) => this.#liveClusters.get(cluster.name)?.config !== cluster);
    const listeners = [...this.#listeners.values()].filter((listener) => this.#liveListeners.get(listener.name) !== listener);
    return [...clusters, ...listeners].map(({ name }) => name);
  }

  /** For /config_dump. */
  dump(): unknown {
    return {
      listeners: [...this.#liveListeners.values()],
      // Of the requests under way each thread knows its own.
      clusters: [...this.#liveClusters.values()].map(({ config, endpoints }) => ({
        ...config,
        endpoints: endpoints.map((endpoint) => ({ ...endpoint, active: undefined })),
      })),
      routes: [...this.#routes.values()].map(({ name, hosts }) => ({
        name,
        routes: hosts.flatMap((host) =>
          host.routes.map((route) => ({ name: route.name, action: route.action, edits: route.edits })),
        ),
      })),
      warming: this.warming(),
    };
  }

  #warmCluster(cluster: Cluster): void {
    const endpoints = this.#endpointsOf(cluster);
    if (endpoints) this.#liveClusters.set(cluster.name, new Live(cluster, endpoints));
  }

  #endpointsOf(cluster: Cluster): readonly Endpoint[] | undefined {
    switch (cluster.discovery) {
      case 'eds':
        return this.#endpoints.get(cluster.edsName);
      case 'static':
        return cluster.endpoints;
      case 'original-dst':
        return [originalDestination()];
    }
  }

  #warmListeners(): void {
    for (const listener of this.#listeners.values()) {
      if (routesOf(listener).every((name) => this.#routes.has(name))) this.#liveListeners.set(listener.name, listener);
    }
  }
}

function routesOf(listener: Listener): string[] {
  if (listener.kind !== 'chains') return [];
  const chains = listener.fallback ? [...listener.chains, listener.fallback] : listener.chains;
  return chains.flatMap((chain) => (chain.kind === 'http' ? [chain.routes] : []));
}

/** An endpoint that stays keeps its count of requests under way: the object itself goes on. */
function keepActive(next: readonly Endpoint[], before: readonly Endpoint[]): readonly Endpoint[] {
  const known = new Map(before.map((endpoint) => [JSON.stringify({ ...endpoint, active: 0 }), endpoint]));
  return next.map((endpoint) => known.get(JSON.stringify(endpoint)) ?? endpoint);
}
