// Listeners as the data path uses them. A tunnel ends at a `terminate` listener, is handed to a `chains` listener, and whatever goes
// on through a tunnel passes an `originate` listener.
import type { HostPort } from '#shared/address.ts';
import type { Subject, Verdict } from '../filters/rbac.ts';

export type RbacCheck = (subject: Subject) => Verdict;

export type Chain = HttpChain | TcpChain;

interface ChainBase {
  readonly name: string;
  readonly match: ChainMatch;
  /** Deny first, then allow. */
  readonly rbac: readonly RbacCheck[];
  readonly accessLog: boolean;
  /** The only identity that the far end may have, on chains that lead to one workload. */
  readonly identity: string | undefined;
}

export interface HttpChain extends ChainBase {
  readonly kind: 'http';
  readonly routes: string;
  readonly normalizePath: boolean;
  readonly websocket: boolean;
}

export interface TcpChain extends ChainBase {
  readonly kind: 'tcp';
  readonly cluster: string;
}

/** Empty lists and undefined match anything. */
export interface ChainMatch {
  readonly addresses: readonly { readonly test: (ip: string) => boolean; readonly bits: number }[];
  readonly port: number | undefined;
  /** Of what the first bytes show. */
  readonly protocols: readonly string[];
}

export type Listener =
  | {
      readonly kind: 'terminate';
      readonly name: string;
      readonly address: HostPort;
      readonly cluster: string;
      readonly maxStreams: number;
    }
  | {
      readonly kind: 'chains';
      readonly name: string;
      readonly chains: readonly Chain[];
      readonly fallback: Chain | undefined;
      /** Ports whose first bytes are looked at; undefined: all; empty: none. */
      readonly inspects: (port: number) => boolean;
      /** Milliseconds that the inspection waits for the client. */
      readonly inspectTimeout: number;
    }
  | { readonly kind: 'originate'; readonly name: string; readonly cluster: string };

/**
 * The chain for a destination, as Envoy chooses: the destination port first, then the longest address prefix, then the protocol;
 * a chain that names what others leave open wins.
 */
export function findChain(chains: readonly Chain[], to: HostPort, protocol: string): Chain | undefined {
  let best: Chain | undefined;
  let bestRank = -1;
  for (const chain of chains) {
    const rank = rankOf(chain.match, to, protocol);
    if (rank <= bestRank) continue;
    best = chain;
    bestRank = rank;
  }
  return best;
}

function rankOf({ port, addresses, protocols }: ChainMatch, to: HostPort, protocol: string): number {
  if (port !== undefined && port !== to.port) return -1;
  let bits = 0;
  if (addresses.length > 0) {
    bits = Math.max(-1, ...addresses.map((address) => (address.test(to.ip) ? address.bits : -1)));
    if (bits < 0) return -1;
  }
  if (protocols.length > 0 && !protocols.includes(protocol)) return -1;
  return (port === undefined ? 0 : 1000) + bits * 2 + (protocols.length > 0 ? 1 : 0);
}
