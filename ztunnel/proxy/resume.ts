// A relay that another ztunnel began: its policies and the revocation lists are asked again, and it goes on with the bytes that were on their way.
import { MeshError } from '#shared/errors.ts';
import type { CancelSignal } from '#shared/lifecycle/cancel.ts';
import type { Conn, DetachedConn } from '#shared/reactor/api.ts';
import type { ConnectionResult } from '../telemetry/connection-result.ts';
import { Carriage } from './carriage.ts';
import type { TrackedConnection } from './connection-tracker.ts';
import type { Admission } from './delivery.ts';
import { Delivery } from './delivery.ts';
import type { Pod, ProxyContext } from './pod.ts';
import type { AdmissionStory, HandableRelay, HandedRelay, RelayStory } from './relay-book.ts';
import { Stays, type Stay } from './stay.ts';

/** Owns the descriptors; resolves once it goes on, never rejects. */
export async function resumeRelay(
  context: ProxyContext,
  { story, results: told, downstream, upstream }: HandedRelay,
): Promise<void> {
  const results = told.map((result) => context.telemetry.resume(result));
  const [down, up] = [adopt(context, downstream), adopt(context, upstream)];
  let stay: Stay | undefined;
  try {
    const pod = podOf(context, story.pod);
    stay = takeStay(context, story.entrance, pod);
    const admitted = story.admission && (await admit(context, story.admission));
    new Resumed(down, up, { context, pod, story, results, stay, admitted }).begin();
  } catch (thrown) {
    const error = MeshError.from(thrown);
    stay?.[Symbol.dispose]();
    down.reset();
    up.reset();
    for (const result of results) result.end(error);
  }
}

interface ResumedParts {
  readonly context: ProxyContext;
  readonly pod: Pod;
  readonly story: RelayStory;
  readonly results: readonly ConnectionResult[];
  readonly stay: Stay;
  readonly admitted: Admitted | undefined;
}

interface Admitted {
  readonly admission: Admission;
  /** To be given back at its end. */
  readonly held: Disposable;
}

class Resumed extends Carriage implements HandableRelay {
  readonly #parts: ResumedParts;
  readonly #stays: Stays;
  readonly #shown: TrackedConnection | undefined;
  readonly #cancels: readonly CancelSignal[];

  constructor(downstream: Conn, upstream: Conn, parts: ResumedParts) {
    const [first, ...others] = parts.results;
    if (!first) throw new MeshError('protocol_error', 'a relay without its counts');
    super(downstream, upstream, first);
    for (const result of others) result.carry(this);
    const { pod, story, admitted } = parts;
    this.#parts = parts;
    this.#stays = parts.stay.pass();
    this.#shown = story.shown && { ...story.shown, id: this.id, cut: (reason) => this.onCancel(reason) };
    this.#cancels = [pod.drain.cut, ...(admitted ? [admitted.admission] : [])];
  }

  /** Until its end. */
  begin(): void {
    const { context } = this.#parts;
    if (this.#shown) context.tracker.add(this.#shown);
    context.relays.add(this);
    for (const cancel of this.#cancels) cancel.add(this);
    const reason = this.#cancels.find((cancel) => cancel.reason)?.reason;
    if (reason) this.onCancel(reason);
  }

  get results(): readonly ConnectionResult[] {
    return this.#parts.results;
  }

  story(): RelayStory {
    return this.#parts.story;
  }

  handedOver(reason: MeshError): void {
    this.leave(reason);
  }

  protected override ended(error: MeshError | undefined): void {
    const { context, admitted, results } = this.#parts;
    if (this.#shown) context.tracker.delete(this.#shown);
    context.relays.delete(this);
    for (const cancel of this.#cancels) cancel.delete(this);
    admitted?.held[Symbol.dispose]();
    this.#stays.leave();
    for (const result of results) result.end(error);
  }
}

function adopt({ reactor }: ProxyContext, conn: DetachedConn): Conn {
  if (reactor.adopt) return reactor.adopt(conn);
  throw new MeshError('internal', `the ${reactor.backend} backend goes on with nobody's connections`);
}

function podOf({ pods }: ProxyContext, uid: string): Pod {
  for (const pod of pods.all()) if (pod.uid === uid) return pod;
  throw new MeshError('draining', `its pod ${uid} is not served here`);
}

/** It is open already, so that it goes on also where there is no room for new ones. */
function takeStay({ limit }: ProxyContext, entrance: HandedRelay['story']['entrance'], { drain }: Pod): Stay {
  try {
    return new Stays(limit, drain).take(entrance);
  } catch {
    return new Stays(undefined, drain).take(entrance);
  }
}

/** Rejects with `policy_denied`, `cert_revoked`, or `unknown_destination`. */
async function admit(context: ProxyContext, story: AdmissionStory): Promise<Admitted> {
  const { pod, workload: uid, ...request } = story;
  const workload = context.store.workloads.get(uid);
  if (!workload) throw new MeshError('unknown_destination', `the workload ${uid} of its policies is not known here`);
  using cleanup = new DisposableStack();
  const admission = cleanup.use(new Delivery(context, podOf(context, pod)).admit({ ...request, workload }));
  if (context.revocations && request.identity !== undefined) {
    const ends = { source: request.identity, destination: workload.identity };
    cleanup.use(await context.revocations.relays.watch(ends, admission));
  }
  return { admission, held: cleanup.move() };
}
