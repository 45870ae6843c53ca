// A relay that another ztunnel began: its policies are asked again, and it goes on with the bytes that were on their way.
import { MeshError } from '#shared/errors.ts';
import { CancelScope } from '#shared/lifecycle/cancel.ts';
import type { Conn, DetachedConn } from '#shared/reactor/api.ts';
import { Delivery } from './delivery.ts';
import { join } from './join.ts';
import type { Pod, ProxyContext } from './pod.ts';
import type { AdmissionStory, HandedRelay } from './relay-book.ts';

/** Owns the descriptors. Serves it to its end; never rejects. */
export async function resumeRelay(
  context: ProxyContext,
  { story, results: told, downstream, upstream }: HandedRelay,
): Promise<void> {
  const { telemetry, tracker, relays } = context;
  const results = told.map((result) => telemetry.resume(result));
  const [down, up] = [adopt(context, downstream), adopt(context, upstream)];
  let error: MeshError | undefined;
  try {
    using cleanup = new DisposableStack();
    const pod = podOf(context, story.pod);
    cleanup.use(placeOf(context, story.entrance));
    cleanup.use(pod.drain.hold());
    const scope = cleanup.use(new CancelScope(pod.drain.cut));
    if (story.admission) cleanup.use(admit(context, story.admission, scope));
    if (story.shown) cleanup.use(tracker.add({ ...story.shown, cut: (reason) => scope.cancel(reason) }));
    await join(down, up, results, scope, { book: relays, story: () => story });
  } catch (thrown) {
    error = MeshError.from(thrown);
    down.reset();
    up.reset();
  }
  for (const result of results) result.end(error);
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
function placeOf({ limit }: ProxyContext, entrance: HandedRelay['story']['entrance']): Disposable | undefined {
  try {
    return limit.take(entrance);
  } catch {
    return undefined;
  }
}

/** Also ends `scope` when the connection must end for its sake. Throws `policy_denied`, or `unknown_destination`. */
function admit(context: ProxyContext, story: AdmissionStory, scope: CancelScope): Disposable {
  const { pod, workload: uid, ...request } = story;
  const workload = context.store.workloads.get(uid);
  if (!workload) throw new MeshError('unknown_destination', `the workload ${uid} of its policies is not known here`);
  const admission = new Delivery(context, podOf(context, pod)).admit({ ...request, workload });
  admission.cancel.add({ onCancel: (reason) => scope.cancel(reason) });
  return admission;
}
