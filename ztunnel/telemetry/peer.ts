// One end of a connection as log lines and metrics name it: from the control plane's workload, or from the baggage of a tunnel.
import type { Baggage } from '#shared/hbone/baggage.ts';
import { formatBaggage } from '#shared/hbone/baggage.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { Workload } from '../state/model.ts';

export interface Peer {
  /** The pod, else its canonical service. */
  readonly name: string;
  readonly namespace: string;
  readonly cluster: string;
  /** The owner of the pod. */
  readonly workload: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly app: string;
  readonly region: string;
  readonly zone: string;
  /** What it proved or, between pods of one node, what the node says of it. */
  readonly identity: SpiffeId | undefined;
  /** What it is by the control plane's word, proved or not. */
  readonly principal: SpiffeId | undefined;
}

export const UNKNOWN_PEER: Peer = {
  name: '',
  namespace: '',
  cluster: '',
  workload: '',
  canonicalName: '',
  canonicalRevision: '',
  app: '',
  region: '',
  zone: '',
  identity: undefined,
  principal: undefined,
};

/** The last peer made of each workload: nearly all of its connections have the same identity, and metrics are found by this object. */
const peers = new WeakMap<Workload, Peer>();

export function peerOf(workload: Workload | undefined, identity?: SpiffeId): Peer {
  if (!workload) return identity === undefined ? UNKNOWN_PEER : { ...UNKNOWN_PEER, identity };
  const known = peers.get(workload);
  if (known && known.identity === identity) return known;
  const peer = describe(workload, identity);
  peers.set(workload, peer);
  return peer;
}

function describe(workload: Workload, identity: SpiffeId | undefined): Peer {
  return {
    name: workload.name || workload.canonicalName,
    namespace: workload.namespace,
    cluster: workload.clusterId,
    workload: workload.workloadName,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    app: workload.canonicalName,
    region: workload.locality.region,
    zone: workload.locality.zone,
    identity,
    principal: workload.identity,
  };
}

/** What the other end of a tunnel says of itself, for peers that the control plane did not tell us about. */
export function peerOfBaggage(baggage: Baggage, identity: SpiffeId | undefined): Peer {
  return {
    name: baggage.workloadType === 'pod' ? (baggage.workloadName ?? '') : (baggage.service ?? ''),
    namespace: baggage.namespace ?? '',
    cluster: baggage.cluster ?? '',
    workload: baggage.workloadName ?? '',
    canonicalName: baggage.service ?? '',
    canonicalRevision: baggage.revision ?? '',
    app: baggage.workloadName ?? '',
    region: baggage.region ?? '',
    zone: baggage.zone ?? '',
    identity,
    principal: identity,
  };
}

/** Of each workload once: every tunnel says it. */
const baggageTexts = new WeakMap<Workload, string>();

/** What a tunnel says of this end, as the header has it. */
export function baggageTextOf(workload: Workload): string {
  let text = baggageTexts.get(workload);
  if (text === undefined) {
    text = formatBaggage(baggageOf(workload));
    baggageTexts.set(workload, text);
  }
  return text;
}

/** The same, field by field. */
function baggageOf(workload: Workload): Baggage {
  return {
    cluster: workload.clusterId,
    namespace: workload.namespace,
    workloadType: workload.workloadType,
    workloadName: workload.workloadName,
    service: workload.canonicalName,
    revision: workload.canonicalRevision,
    region: workload.locality.region,
    zone: workload.locality.zone,
  };
}
