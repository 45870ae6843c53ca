// Ways between two pods for transfers: as many servers as there are lanes, each with one connection at a time.
import type { Socket } from 'node:net';
import type { HostPort } from '#shared/address.ts';
import type { TestPod } from './pod-net.ts';
import type { Lane } from './transfer.ts';

const LANES = 6;

export interface LaneServer {
  readonly address: HostPort;
  /** The next connection that it accepts. */
  readonly accepted: Lane['accepted'];
}

async function server(pod: TestPod): Promise<LaneServer> {
  let waiting = Promise.withResolvers<Socket>();
  const port = await pod.serve((socket) => waiting.resolve(socket));
  return {
    address: { ip: pod.ip, port },
    accepted() {
      waiting = Promise.withResolvers<Socket>();
      return waiting.promise;
    },
  };
}

export function serversOf(pod: TestPod): Promise<LaneServer[]> {
  return Promise.all(Array.from({ length: LANES }, () => server(pod)));
}

export async function through(client: TestPod, pod: TestPod): Promise<Lane[]> {
  return (await serversOf(pod)).map(({ address, accepted }) => ({ connect: () => client.connect(address), accepted }));
}
