// One run: labs up, everything once to warm up, then rounds in which every measurement comes once, so that a noisy minute of the
// machine meets all of them alike.
import { MeshError } from '#shared/errors.ts';
import { medians } from '../statistics.ts';
import { startHttp2Pair } from './http2-peer.ts';
import type { Http2Pair } from './http2-peer.ts';
import { startPathLab } from './lab.ts';
import type { PathLab } from './lab.ts';
import { measure } from './loads.ts';
import type { Path, Sample } from './loads.ts';
import { keyOf } from './rows.ts';
import type { Measurement, Route, Subject } from './rows.ts';
import type { Namespace, PodName } from './topology.ts';

export interface RunOptions {
  readonly measurements: readonly Measurement[];
  readonly rounds: number;
  readonly seconds: number;
  readonly backend: 'native' | 'portable';
  /** Binary of another ztunnel. */
  readonly peerZtunnel?: string | undefined;
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

const ENDS: Record<Route, { from: Namespace; to: Namespace; target: PodName }> = {
  hbone: { from: 'mesh', to: 'mesh', target: 'far' },
  'same-node': { from: 'mesh', to: 'mesh', target: 'near' },
  passthrough: { from: 'mesh', to: 'plain', target: 'far' },
  plaintext: { from: 'plain', to: 'mesh', target: 'far' },
  direct: { from: 'plain', to: 'plain', target: 'far' },
  'direct-near': { from: 'plain', to: 'plain', target: 'near' },
  http2: { from: 'plain', to: 'plain', target: 'far' },
};

/** Of the warm-up, s. */
const WARM_UP = 1;

/** The medians by key of the measurement. Everything that was started is gone afterwards. */
export async function runRounds(options: RunOptions): Promise<Map<string, Sample>> {
  const { measurements, rounds, seconds, progress, signal } = options;
  await using cleanup = new AsyncDisposableStack();
  const labs = await startLabs(options, cleanup);
  const http2 = measurements.some(({ route }) => route === 'http2') ? cleanup.use(await startHttp2Pair(labs.culvert)) : undefined;
  const samples = new Map<string, Sample[]>();
  for (let round = 0; round <= rounds; round += 1)
    for (const measurement of measurements) {
      signal.throwIfAborted();
      const { route, load, subject } = measurement;
      const lab = labs[subject];
      if (!lab) continue;
      const sample = await measure(pathOf(route, lab, http2), load, round === 0 ? WARM_UP : seconds);
      if (round === 0) continue;
      const key = keyOf(measurement);
      samples.set(key, [...(samples.get(key) ?? []), sample]);
      progress(`round ${round}  ${key.padEnd(36)} ${describe(sample)}`);
    }
  return new Map([...samples].map(([key, list]) => [key, medians(list)]));
}

async function startLabs(
  { backend, peerZtunnel, progress }: RunOptions,
  cleanup: AsyncDisposableStack,
): Promise<Partial<Record<Subject, PathLab>> & { culvert: PathLab }> {
  progress(`starting a lab with the ${backend} backend`);
  const culvert = cleanup.use(await startPathLab({ env: { CULVERT_BACKEND: backend } }, progress));
  if (peerZtunnel === undefined) return { culvert };
  progress('starting a lab with the peer');
  // The peer's own DNS capture would need a resolver in each pod; ours is off here too.
  const peer = { argv: [peerZtunnel], env: { ISTIO_META_DNS_CAPTURE: 'false' } };
  return { culvert, ztunnel: cleanup.use(await startPathLab(peer, progress)) };
}

function pathOf(route: Route, lab: PathLab, http2: Http2Pair | undefined): Path {
  const ends = { lab, ...ENDS[route] };
  switch (route) {
    case 'direct':
    case 'direct-near':
      return { ...ends, proxies: [] };
    case 'http2':
      if (!http2) throw new MeshError('internal', 'the node:http2 pair was not started');
      return { ...ends, proxies: http2.pids, via: http2.via };
    case 'hbone':
    case 'same-node':
    case 'passthrough':
    case 'plaintext':
      return { ...ends, proxies: lab.ztunnels };
  }
}

function describe(sample: Sample): string {
  return Object.entries(sample)
    .map(([field, value]) => `${field} ${value.toFixed(value < 10 ? 2 : 0)}`)
    .join('  ');
}
