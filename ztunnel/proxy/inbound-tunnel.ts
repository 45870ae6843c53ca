// What a CONNECT request says of its origin, for telemetry and policy. Pure.
import type { HostPort } from '#shared/address.ts';
import type { HeaderList } from '#shared/hbone/api.ts';
import { parseBaggage } from '#shared/hbone/baggage.ts';
import { forwardedHost } from '#shared/hbone/forwarded.ts';
import { header } from '#shared/http2/headers.ts';
import { isSpiffeId } from '#shared/ids.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { PeerCertificate } from '#shared/reactor/api.ts';
import type { Workload } from '../state/model.ts';
import type { MeshView } from '../state/store.ts';
import type { Peer } from '../telemetry/peer.ts';
import { peerOf, peerOfBaggage } from '../telemetry/peer.ts';

export interface TunnelOrigin {
  readonly identity: SpiffeId | undefined;
  readonly peer: Peer;
  /** The host name that the client's ztunnel was asked for. */
  readonly serviceHost: string | undefined;
}

export interface OriginRequest {
  readonly certificate: PeerCertificate;
  readonly remote: HostPort;
  readonly headers: HeaderList;
  readonly workload: Workload;
  /** This ztunnel's network. */
  readonly network: string;
  /** Whether the sender's own description counts. */
  readonly useBaggage: boolean;
}

export function tunnelOrigin(view: MeshView, request: OriginRequest): TunnelOrigin {
  const { certificate, remote, headers, workload, network, useBaggage } = request;
  const identity = certificate.uris.find(isSpiffeId);
  const forwarded = header(headers, 'forwarded');
  const from = header(headers, 'x-forwarded-network');
  // A gateway's address says nothing of who is behind it.
  const throughGateway = from !== undefined && from.toLowerCase() !== network.toLowerCase();
  const known = throughGateway ? undefined : view.workloads.byAddress(workload.network, remote.ip);
  const peer = known || !useBaggage ? peerOf(known, identity) : peerOfBaggage(parseBaggage(headers), identity);
  return { identity, peer, serviceHost: forwarded === undefined ? undefined : forwardedHost(forwarded) };
}
