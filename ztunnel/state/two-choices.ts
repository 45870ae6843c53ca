// Least request of two choices: two endpoints are drawn at random by capacity, and the one with less to do takes the connection.
// Pure but for the random numbers that it is given, and without an allocation, however many endpoints there are.
import type { WorkloadUid } from '#shared/ids.ts';

/** One endpoint's connections in flight, seen from this thread. Each that is opened adds one and takes it off at its end. */
export interface EndpointLoad {
  readonly uid: WorkloadUid;
  inFlight: number;
}

export interface Candidate {
  readonly load: EndpointLoad;
  readonly port: number;
  /** Above 0. */
  readonly capacity: number;
}

/** Candidates of one rank, with the sums of the capacities up to and including each. */
export interface Group {
  readonly candidates: readonly Candidate[];
  readonly sums: Float64Array;
}

/** Draws until two are usable; a group most of which is not is then searched from a random place. */
const DRAWS = 8;

export function groupOf(candidates: readonly Candidate[]): Group {
  const sums = new Float64Array(candidates.length);
  let sum = 0;
  for (const [index, { capacity }] of candidates.entries()) sums[index] = sum += capacity;
  return { candidates, sums };
}

/** `random`: 0 ≤ x < 1, new at each call. `unusable` undefined: all are usable. */
export function chooseOf(
  group: Group,
  random: () => number,
  unusable?: (candidate: Candidate) => boolean,
): Candidate | undefined {
  const { candidates } = group;
  if (candidates.length === 1) return usableOnly(candidates[0], unusable);
  let first: Candidate | undefined;
  for (let draws = 0; draws < DRAWS; draws++) {
    const drawn = usableOnly(draw(group, random()), unusable);
    if (!drawn) continue;
    if (first) return weight(drawn) < weight(first) ? drawn : first;
    first = drawn;
  }
  return first ?? search(candidates, random(), unusable);
}

function usableOnly(candidate: Candidate | undefined, unusable?: (candidate: Candidate) => boolean): Candidate | undefined {
  return candidate && unusable?.(candidate) ? undefined : candidate;
}

/** An endpoint of twice the capacity is as busy with twice the connections. */
function weight({ load, capacity }: Candidate): number {
  return load.inFlight / capacity;
}

/** The first whose sum is above the point. */
function draw({ candidates, sums }: Group, random: number): Candidate | undefined {
  const point = random * (sums.at(-1) ?? 0);
  let low = 0;
  let high = sums.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sums[middle] ?? 0) > point) high = middle;
    else low = middle + 1;
  }
  return candidates[low];
}

function search(
  candidates: readonly Candidate[],
  random: number,
  unusable?: (candidate: Candidate) => boolean,
): Candidate | undefined {
  const start = Math.floor(random * candidates.length);
  for (let i = 0; i < candidates.length; i++) {
    const found = usableOnly(candidates[(start + i) % candidates.length], unusable);
    if (found) return found;
  }
  return undefined;
}
