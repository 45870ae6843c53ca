// The same measurement in a lab of each subject, one after the other: our ztunnels, then a peer's.
import { MeshError } from '#shared/errors.ts';
import { requirePrograms } from '../cli/lab/preflight.ts';
import type { PathLab } from './path/lab.ts';
import { startPathLab } from './path/lab.ts';
import type { Row, Subject } from './path/rows.ts';
import { ztunnelOf } from './path/subjects.ts';
import type { Subjects } from './path/subjects.ts';

export interface SubjectLabsOptions extends Subjects {
  readonly files: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
}

const PROGRAMS: readonly [string, string][] = [
  ['nginx', 'nginx-light'],
  ['curl', 'curl'],
];

/** By subject. Each lab is gone before the next one starts. */
export async function inLabs<T>(options: SubjectLabsOptions, measure: (lab: PathLab) => Promise<T>): Promise<Map<Subject, T>> {
  const missing = await requirePrograms(PROGRAMS);
  if (missing.length > 0) throw new MeshError('missing_capability', missing.join('\n'));
  const { files, progress, signal, peerZtunnel } = options;
  const subjects: Subject[] = peerZtunnel === undefined ? ['culvert'] : ['culvert', 'ztunnel'];
  const results = new Map<Subject, T>();
  for (const subject of subjects) {
    progress(`starting the lab of ${subject}`);
    await using lab = await startPathLab({ ztunnel: ztunnelOf(subject, options), files, progress, signal });
    results.set(subject, await measure(lab));
  }
  return results;
}

/** A duration, ms, beside the peer's where that was measured; `limit` says what took so long. */
export function durationRow(name: string, most: number, value: number, peerValue: number | undefined, limit: string): Row {
  const ok = value <= most;
  return {
    name,
    unit: 'ms',
    value,
    ...(peerValue !== undefined && { peer: 'ztunnel', peerValue }),
    bar: `<= ${most}`,
    ok,
    limit,
  };
}
