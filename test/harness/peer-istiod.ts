// A real istiod that is named by the environment (test/ztunnel/peer-istiod*.test.ts): who its ztunnels are, a line to it that can be cut,
// and the Kubernetes API behind it. Pods of its mesh are played by namespaces here that have their addresses, so nothing of the cluster
// is touched, but for policies that a test makes and takes away.
//   PEER_ISTIOD            its address, https://HOST:15012
//   PEER_ISTIOD_ROOT       its root certificate, a path or SYSTEM (default: the place where Kubernetes mounts it)
//   PEER_ISTIOD_HOSTNAME   the name in its certificate where that is not HOST
//   PEER_ISTIOD_CLUSTER    the cluster's name (default Kubernetes)
//   PEER_ISTIOD_NETWORK    the network of its pods (default none)
//   PEER_ISTIOD_NODE       a node with two enrolled pods that may talk to each other (default node-1)
//   PEER_ISTIOD_TOKEN      the token of the ztunnel's service account on that node, a path or itself
//   PEER_ISTIOD_FAR_NODE, PEER_ISTIOD_FAR_TOKEN   the same for another node with one enrolled pod (default: what needs two is skipped)
//   PEER_ISTIOD_KUBECONFIG a user who may write AuthorizationPolicies (default: what needs one is skipped)
//   PEER_ZTUNNEL           the binary of another ztunnel, for that other node (default: what needs one is skipped)
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { CustomObjectsApi, KubeConfig } from '@kubernetes/client-node';
import type { Test } from 'tap';
import type { Workload } from '../../ztunnel/state/model.ts';
import type { LabNode } from './mesh-lab.ts';

const { PEER_ISTIOD, PEER_ISTIOD_ROOT, PEER_ISTIOD_HOSTNAME, PEER_ISTIOD_CLUSTER, PEER_ISTIOD_KUBECONFIG } = process.env;

export const ISTIOD = PEER_ISTIOD ?? '';
export const NODE = process.env['PEER_ISTIOD_NODE'] ?? 'node-1';
export const FAR_NODE = process.env['PEER_ISTIOD_FAR_NODE'] ?? '';

export const needs = {
  istiod: PEER_ISTIOD === undefined && 'PEER_ISTIOD is not set',
  twoNodes: FAR_NODE === '' && 'PEER_ISTIOD_FAR_NODE is not set',
  ztunnel: process.env['PEER_ZTUNNEL'] === undefined && 'PEER_ZTUNNEL names no binary',
  kubernetes: PEER_ISTIOD_KUBECONFIG === undefined && 'PEER_ISTIOD_KUBECONFIG is not set',
};

/** The variables of a ztunnel of the node, under istiod or a line to it. */
export function ztunnelEnv(node: string, address = ISTIOD): Record<string, string> {
  const hostname = PEER_ISTIOD_HOSTNAME ?? (address === ISTIOD ? undefined : new URL(ISTIOD).hostname);
  const given = {
    XDS_ADDRESS: address,
    CA_ADDRESS: address,
    XDS_ROOT_CA: PEER_ISTIOD_ROOT,
    CA_ROOT_CA: PEER_ISTIOD_ROOT,
    ALT_XDS_HOSTNAME: hostname,
    ALT_CA_HOSTNAME: hostname,
    AUTH_TOKEN: process.env[node === FAR_NODE ? 'PEER_ISTIOD_FAR_TOKEN' : 'PEER_ISTIOD_TOKEN'],
    CLUSTER_ID: PEER_ISTIOD_CLUSTER,
    NETWORK: process.env['PEER_ISTIOD_NETWORK'],
    SAME_NODE: 'hbone',
  };
  return Object.fromEntries(Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}

/** Enrolled pods of a node, as a ztunnel knows them: those that can be played here. */
export function podsOf({ app }: LabNode, node: string): [Workload, ...Workload[]] {
  const [first, ...more] = Iterator.from(app.store.workloads.values())
    .filter((one) => one.node === node && one.protocol === 'HBONE' && one.networkMode === 'Standard')
    .filter(({ ips, nativeTunnel, waypoint }) => ips.length > 0 && !nativeTunnel && !waypoint)
    .toArray()
    .sort((a, b) => a.uid.localeCompare(b.uid));
  if (!first) throw new Error(`${ISTIOD} must know an enrolled pod on ${node}`);
  return [first, ...more];
}

/** A relay to istiod at an address of its own, to play that istiod goes away and comes back. */
export class IstiodLine {
  readonly #open = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;

  constructor(t: Pick<Test, 'teardown'>) {
    t.teardown(() => this.cut());
  }

  get address(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  async join(): Promise<void> {
    const { hostname, port } = new URL(ISTIOD);
    const server = createServer((socket) => {
      const onward = connect({ host: hostname, port: Number(port) });
      for (const [one, other] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        this.#open.add(one);
        one.pipe(other);
        one.on('error', () => other.destroy());
        one.once('close', () => {
          this.#open.delete(one);
          other.destroy();
        });
      }
    });
    server.listen({ host: '127.0.0.1', port: this.#port });
    await once(server, 'listening');
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** As when its process is killed: what is open is reset, what is new is refused. */
  cut(): void {
    this.#server?.close();
    for (const socket of this.#open) socket.resetAndDestroy();
  }
}

const POLICIES = { group: 'security.istio.io', version: 'v1', plural: 'authorizationpolicies' };

/** AuthorizationPolicies that are gone when the test ends. */
export class ClusterPolicies {
  readonly #api: CustomObjectsApi;
  readonly #made = new Map<string, string>();

  constructor(t: Pick<Test, 'teardown'>) {
    const config = new KubeConfig();
    config.loadFromFile(PEER_ISTIOD_KUBECONFIG ?? '');
    this.#api = config.makeApiClient(CustomObjectsApi);
    t.teardown(async () => {
      for (const name of this.#made.keys()) await this.remove(name);
    });
  }

  async create(namespace: string, name: string, spec: object): Promise<void> {
    const body = { apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', metadata: { name, namespace }, spec };
    await this.#api.createNamespacedCustomObject({ ...POLICIES, namespace, body });
    this.#made.set(name, namespace);
  }

  async remove(name: string): Promise<void> {
    const namespace = this.#made.get(name) ?? '';
    this.#made.delete(name);
    await this.#api.deleteNamespacedCustomObject({ ...POLICIES, namespace, name });
  }
}
