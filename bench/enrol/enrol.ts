// One enrolment: from the label on a pod to the first byte that came over mTLS.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MeshError } from '#shared/errors.ts';
import type { KubeObject } from '#shared/kube/object.ts';
import { openCluster } from '../../cli/cluster.ts';
import { orAborted } from '../abortable.ts';
import { startInPod } from '../path/inpod/start.ts';
import type { PathLab } from '../path/lab.ts';
import { HTTP_PORT, PODS } from '../path/topology.ts';
import { ZtunnelLog } from '../ztunnel-log.ts';
import { LATE } from './objects.ts';

export interface Enrolled {
  /** From the label to the first byte, ms. */
  readonly label: number;
  /** From when the ztunnel began with what it was told over ZDS to the first byte, ms. */
  readonly known: number;
  /** What of that went by until its listeners were bound, ms; NaN for another ztunnel than ours. */
  readonly listening: number;
}

/** Between two connections of the client, ms. */
const PAUSE = 2;
/** The client tries in vain for this long before the label, ms: what it must compile is compiled. */
const BEFORE = 1000;
const TIMEOUT = 30_000;

/** The server takes mTLS alone: the first byte of an answer has come over it. */
export async function enrol(lab: PathLab, name: string, signal: AbortSignal): Promise<Enrolled> {
  const cluster = await openCluster(lab.runDir);
  const pod: KubeObject | undefined = (await cluster.written()).get('Pod', LATE, name);
  if (!pod) throw new MeshError('internal', `there is no pod ${name}`);
  const log = new ZtunnelLog(lab.runDir, PODS.client);
  const program = join(import.meta.dirname, '..', 'path', 'inpod', 'first-bytes.ts');
  const args = [lab.pod('mesh', 'far').ip, String(HTTP_PORT), String(PAUSE)];
  await using probe = await startInPod(lab.pod(LATE, name).pid, program, args);
  await sleep(BEFORE, undefined, { signal });
  await log.mark();
  const labels = { ...pod.metadata.labels, 'istio.io/dataplane-mode': 'ambient' };
  const labelled = performance.timeOrigin + performance.now();
  await cluster.apply({ ...pod, metadata: { ...pod.metadata, labels } });
  const line = await orAborted(probe.line(), signal, { ms: TIMEOUT, what: `the first byte of ${name}` });
  const { answered } = JSON.parse(line) as { answered: number };
  const { since, listening } = await knownAt(log, name);
  return { label: answered - labelled, known: answered - since, listening };
}

/** Ours says how long its listeners took; Rust's says that it begins with them. */
const ENROLLED = /pod enrolled.*after_ms=(?<after>[\d.]+)|received, starting proxy/u;

async function knownAt(log: ZtunnelLog, name: string): Promise<{ since: number; listening: number }> {
  for (const { time, text } of await log.lines()) {
    const found = ENROLLED.exec(text);
    const listening = Number(found?.groups?.['after']);
    if (found) return { since: time - (listening || 0), listening };
  }
  throw new MeshError('internal', `the ztunnel has not logged the enrolment of ${name}`);
}
