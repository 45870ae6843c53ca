// The network of the waypoint benchmark: waypoints in the middle, in a network namespace of their own, and clients and servers in others,
// each joined to it by a veth pair. Those of the mesh have the redirect rules of an enrolled pod.
import { closeSync } from 'node:fs';
import { openNetns } from '#shared/os/netns.ts';
import { applyPodRules } from '../../cni/rules/apply.ts';
import { DEFAULT_POD_RULES } from '../../cni/rules/pod.ts';
import { netnsPath, run } from '../../cli/lab/run.ts';

/** Around the waypoints. `outside` the mesh: without redirect rules. */
export const PLACES = ['client', 'server', 'outside-client', 'outside-server'] as const;
export type Place = (typeof PLACES)[number];

export interface WaypointNet extends AsyncDisposable {
  /** Name of the namespace. */
  readonly netns: (place: Place | 'waypoint') => string;
}

/** Of one place's end, and of others behind it; all are this benchmark's own, as nothing leaves its namespaces. */
export function addressAt(place: Place, last: number): string {
  return `10.80.${PLACES.indexOf(place) + 1}.${last}`;
}

/** An address of the waypoints themselves. */
export function waypointAddress(last: number): string {
  return `10.80.0.${last}`;
}

/** `waypoints`: their addresses; `servers`: those of the pods, by place. */
export async function startWaypointNet(
  waypoints: readonly string[],
  servers: Partial<Record<Place, readonly string[]>>,
): Promise<WaypointNet> {
  await using cleanup = new AsyncDisposableStack();
  const netns = (place: Place | 'waypoint'): string => `culvert-bench-${process.pid}-${place}`;
  const add = async (place: Place | 'waypoint'): Promise<void> => {
    await run(['ip', 'netns', 'add', netns(place)]);
    cleanup.defer(async () => void (await run(['ip', 'netns', 'del', netns(place)])));
    await run(['ip', '-n', netns(place), 'link', 'set', 'lo', 'up']);
  };
  const middle = netns('waypoint');
  await add('waypoint');
  for (const ip of waypoints) await run(['ip', '-n', middle, 'addr', 'add', `${ip}/32`, 'dev', 'lo']);
  for (const place of PLACES) {
    await add(place);
    const [own, router] = [netns(place), addressAt(place, 1)];
    await run(['ip', '-n', own, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', place, 'netns', middle]);
    for (const ip of [addressAt(place, 2), ...(servers[place] ?? [])])
      await run(['ip', '-n', own, 'addr', 'add', `${ip}/24`, 'dev', 'eth0']);
    await run(['ip', '-n', middle, 'addr', 'add', `${router}/24`, 'dev', place]);
    await run(['ip', '-n', own, 'link', 'set', 'eth0', 'up']);
    await run(['ip', '-n', middle, 'link', 'set', place, 'up']);
    await run(['ip', '-n', own, 'route', 'add', 'default', 'via', router]);
    if (!place.startsWith('outside')) await redirect(own);
  }
  const held = cleanup.move();
  return { netns, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** As the CNI agent enrols a pod; nobody resolves names here. */
async function redirect(netns: string): Promise<void> {
  const fd = openNetns(netnsPath(netns));
  try {
    await applyPodRules(fd, { ...DEFAULT_POD_RULES, dnsCapture: false });
  } finally {
    closeSync(fd);
  }
}
