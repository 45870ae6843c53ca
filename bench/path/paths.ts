// The two ends of each way through a lab, and whose CPU counts on it.
import { MeshError } from '#shared/errors.ts';
import type { Http2Pair } from './http2-peer.ts';
import type { PathLab } from './lab.ts';
import type { NginxHops } from './nginx-peer.ts';
import type { Path } from './loads.ts';
import type { Route } from './rows.ts';
import type { Namespace, PodName } from './topology.ts';

type LabRoute = Exclude<Route, 'tls'>;

const ENDS: Record<LabRoute, { from: Namespace; to: Namespace; target: PodName }> = {
  hbone: { from: 'mesh', to: 'mesh', target: 'far' },
  'same-node': { from: 'mesh', to: 'mesh', target: 'near' },
  passthrough: { from: 'mesh', to: 'plain', target: 'far' },
  plaintext: { from: 'plain', to: 'mesh', target: 'far' },
  direct: { from: 'plain', to: 'plain', target: 'far' },
  'direct-near': { from: 'plain', to: 'plain', target: 'near' },
  http2: { from: 'plain', to: 'plain', target: 'far' },
  'nginx-pair': { from: 'plain', to: 'plain', target: 'far' },
  nginx: { from: 'plain', to: 'plain', target: 'far' },
  'nginx-near': { from: 'plain', to: 'plain', target: 'near' },
};

/** Threads of all proxies on this way that carry its connections, when each ztunnel has so many. The `node:http2` pair has one each. */
export function threadsOn(route: LabRoute, workers: number): number {
  switch (route) {
    case 'direct':
    case 'direct-near':
      return 0;
    case 'http2':
    case 'nginx-pair':
      return 2;
    case 'nginx':
    case 'nginx-near':
      return 1;
    case 'hbone':
      return 2 * workers;
    case 'same-node':
    case 'passthrough':
    case 'plaintext':
      return workers;
  }
}

/** The proxies that stand beside ours; each undefined when it is not needed. */
export interface Others {
  readonly http2?: Http2Pair | undefined;
  readonly nginx?: NginxHops | undefined;
}

export function pathOf(route: LabRoute, lab: PathLab, { http2, nginx }: Others = {}): Path {
  const ends = { lab, ...ENDS[route] };
  switch (route) {
    case 'direct':
    case 'direct-near':
      return { ...ends, proxies: [] };
    case 'http2':
      if (!http2) throw new MeshError('internal', 'the node:http2 pair was not started');
      return { ...ends, proxies: http2.pids, via: http2.via };
    case 'nginx-pair':
    case 'nginx':
    case 'nginx-near':
      if (!nginx) throw new MeshError('internal', 'nginx was not started as a TCP proxy');
      return { ...ends, proxies: nginx.pids(route), via: nginx.via(route) };
    case 'hbone':
    case 'same-node':
    case 'passthrough':
    case 'plaintext':
      return { ...ends, proxies: lab.ztunnels };
  }
}
