// A takeover as the new ztunnel lives through it, phase by phase (docs/upgrade.md).
import type { Metrics } from '#shared/telemetry/metrics.ts';
import type { HandedRelay } from '../proxy/relay-book.ts';
import type { GivenPod, Predecessor } from './predecessor.ts';

export interface TakeOverDeps {
  /** Resolves when this ztunnel knows the mesh and has its certificates. */
  readonly ready: Promise<unknown>;
  /** Serves a pod on the sockets that it comes with; owns the descriptors. */
  readonly adopt: (pod: GivenPod) => Promise<void>;
  /** It has a pod of its own, whose sockets may come too. */
  readonly own: boolean;
  readonly metrics: Metrics;
  /** Goes on with a relay of the other one; undefined: this one cannot, and they drain there. */
  readonly resume: ((relay: HandedRelay) => void) | undefined;
}

/** Resolves when this ztunnel serves alone. Rejects when it does not: the other one goes on, and this one must end. */
export async function takeOver(from: Predecessor, { ready, adopt, own, metrics, resume }: TakeOverDeps): Promise<void> {
  if (!(await from.serves(ready))) return;
  // All of them before the first is served: what fails until then is no connection's end.
  const pods = await from.pods({ relays: resume !== undefined, own });
  for (const pod of pods) await adopt(pod);
  await from.release(metrics);
  void from.follow(metrics, resume ?? (() => undefined));
}
