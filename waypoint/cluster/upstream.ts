// From an endpoint to bytes that reach it: plain TCP, or a tunnel that this waypoint opens with its own identity.
import { formatHostPort, type HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { HbonePool } from '#shared/hbone/api.ts';
import { isSpiffeId, type SpiffeId } from '#shared/ids.ts';
import type { ByteStream, Reactor, SocketOptions } from '#shared/reactor/api.ts';
import type { ConnectionInfo } from '../http/request.ts';
import type { Listener } from '../listener/listener.ts';
import type { Cluster, Endpoint } from './cluster.ts';

export interface UpstreamDeps {
  readonly reactor: Pick<Reactor, 'connect'>;
  readonly tunnels: HbonePool;
  readonly identity: SpiffeId;
  /** Own address: tunnels of different pods are never shared. */
  readonly instanceIp: string;
  /** Of a new connection for tunnels. */
  readonly tunnelSocket: SocketOptions;
  listener(name: string): Listener | undefined;
  cluster(name: string): Cluster | undefined;
}

/** What a connection needs to know beyond the endpoint. */
export interface UpstreamContext {
  readonly connection: ConnectionInfo;
  /** Who may answer, on chains that lead to one workload. */
  readonly identity: string | undefined;
}

/** Rejects with a MeshError that says which endpoint could not be reached and why. */
export function connectUpstream(
  deps: UpstreamDeps,
  cluster: Cluster,
  endpoint: Endpoint,
  context: UpstreamContext,
): Promise<ByteStream> {
  const { address } = endpoint;
  if (cluster.discovery === 'original-dst') return connectTcp(deps, context.connection.destination, cluster.connectTimeout);
  if (address.kind === 'tcp') return connectTcp(deps, address.to, cluster.connectTimeout);
  const listener = deps.listener(address.listener);
  const tunnel = listener?.kind === 'originate' ? deps.cluster(listener.cluster)?.tunnel : undefined;
  if (!tunnel)
    return Promise.reject(
      new MeshError('invalid_config', `${cluster.name}: internal listener ${address.listener} opens no tunnels`),
    );
  const destination = address.destination ?? context.connection.destination;
  return openTunnel(deps, destination, tunnel.port, endpoint.identity ?? context.identity);
}

function connectTcp(deps: UpstreamDeps, to: HostPort, timeout: number): Promise<ByteStream> {
  return deps.reactor.connect({ to, timeout });
}

async function openTunnel(
  deps: UpstreamDeps,
  destination: HostPort,
  port: number,
  identity: string | undefined,
): Promise<ByteStream> {
  const authority = formatHostPort(destination);
  if (identity === undefined || !isSpiffeId(identity))
    throw new MeshError('identity_mismatch', `${authority}: the configuration does not say whose identity to expect`);
  const tunnel = await deps.tunnels.open({
    peer: { source: deps.identity, accepted: [identity], to: { ip: destination.ip, port }, sourceIp: deps.instanceIp },
    authority,
    headers: [],
    socket: deps.tunnelSocket,
  });
  return tunnel.stream;
}
