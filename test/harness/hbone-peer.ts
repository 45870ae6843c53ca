// A peer of ztunnels that speaks HBONE itself, in a pod that is not enrolled.
import type { Socket } from 'node:net';
import type { Test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import { systemClock } from '#shared/clock.ts';
import type { HeaderList, Tunnel } from '#shared/hbone/api.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { spiffeId } from '#shared/ids.ts';
import { createReactor } from '#shared/reactor/create.ts';
import type { MeshLab } from './mesh-lab.ts';
import type { TestCa } from './test-ca.ts';
import type { Workload } from '../../ztunnel/state/model.ts';

export const PEER: SpiffeId = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'peer' });
const HBONE = 15_008;

export interface TunnelRequest {
  readonly authority: string;
  /** The pod, at its first address or at this one. */
  readonly ip?: string;
  /** Default PEER. */
  readonly identity?: SpiffeId;
  /** Who certifies that; default the lab's. The peer itself trusts the lab's. */
  readonly ca?: TestCa;
  readonly headers?: HeaderList;
}

export interface HbonePeer {
  readonly ip: string;
  open(request: TunnelRequest): Promise<Tunnel>;
  /** A plain connection to the port where tunnels go, at the pod's first address. */
  dial(): Socket;
  /** Of the identities that the lab's own CA certifies. */
  readonly pool: ConnectionPool;
}

/** Dials `server`; has these addresses itself. */
export function hbonePeer(t: Test, lab: MeshLab, server: Workload, ...ips: string[]): HbonePeer {
  const pod = lab.net.pod('stranger', ...ips);
  const { netns, ip } = pod;
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const pools = new Map<TestCa, ConnectionPool>();
  t.teardown(() => pools.forEach((pool) => pool.close()));
  const poolOf = (ca: TestCa): ConnectionPool => {
    const certificates = { get: async (identity: SpiffeId) => ca.issue(identity, { roots: lab.ca.root }) };
    const pool = pools.get(ca) ?? new ConnectionPool({ reactor, certificates, clock: systemClock });
    pools.set(ca, pool);
    return pool;
  };
  return {
    ip,
    pool: poolOf(lab.ca),
    dial: () => pod.dial({ ip: server.ips[0] ?? '', port: HBONE }),
    open({ authority, ip: at = server.ips[0] ?? '', identity = PEER, ca = lab.ca, headers = [] }) {
      const to: HostPort = { ip: at, port: HBONE };
      return poolOf(ca).open({
        peer: { source: identity, accepted: [server.identity], to, sourceIp: ip },
        authority,
        headers,
        socket: { netns: netns.fd },
      });
    },
  };
}
