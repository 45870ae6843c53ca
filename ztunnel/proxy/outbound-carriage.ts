// A connection out of a pod, once the way to its destination is open: shown to admins, and ended when its pod goes or, within the node, when
// the destination's side must.
import type { HostPort } from '#shared/address.ts';
import { formatHostPort } from '#shared/address.ts';
import type { MeshError } from '#shared/errors.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import type { EndpointLoad } from '../state/two-choices.ts';
import type { ConnectionResult } from '../telemetry/connection-result.ts';
import { Carriage } from './carriage.ts';
import type { TrackedConnection } from './connection-tracker.ts';
import type { Pod, ProxyContext } from './pod.ts';
import type { HandableRelay, RelayStory } from './relay-book.ts';
import { admissionStory } from './relay-book.ts';
import type { SameNodeEnd } from './same-node.ts';
import type { Stay, Stays } from './stay.ts';
import type { Route } from './upstream.ts';

export interface OutboundParts {
  readonly context: ProxyContext;
  readonly pod: Pod;
  readonly from: HostPort;
  readonly to: HostPort;
  readonly route: Route;
  /** The destination's side, when that is in this process too. */
  readonly local: SameNodeEnd | undefined;
  readonly load: EndpointLoad | undefined;
  readonly result: ConnectionResult;
  readonly stay: Stay;
}

export class OutboundCarriage extends Carriage implements TrackedConnection, HandableRelay {
  readonly source: HostPort;
  readonly protocol: TrackedConnection['protocol'];
  readonly #context: ProxyContext;
  readonly #pod: Pod;
  readonly #to: HostPort;
  readonly #dialled: HostPort;
  readonly #local: SameNodeEnd | undefined;
  readonly #load: EndpointLoad | undefined;
  readonly #result: ConnectionResult;
  readonly #stays: Stays;

  /** Owns all of it. */
  constructor(client: ByteStream, upstream: ByteStream, parts: OutboundParts) {
    const { context, pod, from, to, route, local, load, result, stay } = parts;
    super(client, upstream, result);
    local?.result.carry(this);
    this.source = from;
    this.protocol = protocolOf(route, local);
    this.#context = context;
    this.#pod = pod;
    this.#to = to;
    this.#dialled = route.to;
    this.#local = local;
    this.#load = load;
    this.#result = result;
    this.#stays = stay.pass();
  }

  /** Until its end. */
  begin(): void {
    const { tracker, relays } = this.#context;
    const { cut } = this.#pod.drain;
    const admission = this.#local?.admission;
    tracker.add(this);
    if (this.protocol === 'TCP') relays.add(this);
    cut.add(this);
    admission?.add(this);
    const reason = cut.reason ?? admission?.reason;
    if (reason) this.onCancel(reason);
  }

  get pod(): string {
    return this.#pod.uid;
  }

  get direction(): 'outbound' {
    return 'outbound';
  }

  get originalDestination(): string {
    return formatHostPort(this.#to);
  }

  get actualDestination(): string {
    return formatHostPort(this.#dialled);
  }

  cut(reason: MeshError): void {
    this.onCancel(reason);
  }

  get results(): readonly ConnectionResult[] {
    return this.#local ? [this.#result, this.#local.result] : [this.#result];
  }

  story(): RelayStory {
    const { pod, direction, source, originalDestination, actualDestination, protocol } = this;
    const shown = { pod, direction, source, originalDestination, actualDestination, protocol };
    const admission = this.#local && admissionStory(this.#local.admission.pod, this.#local.admission.request);
    return { pod, entrance: 'outbound', shown, ...(admission ? { admission } : {}) };
  }

  handedOver(reason: MeshError): void {
    this.leave(reason);
  }

  protected override ended(error: MeshError | undefined): void {
    const { tracker, relays } = this.#context;
    tracker.delete(this);
    relays.delete(this);
    this.#pod.drain.cut.delete(this);
    this.#local?.admission.delete(this);
    this.#local?.[Symbol.dispose]();
    if (this.#load) this.#load.inFlight -= 1;
    this.#stays.leave();
    this.#result.end(error);
    this.#local?.result.end(error);
  }
}

function protocolOf(route: Route, local: SameNodeEnd | undefined): TrackedConnection['protocol'] {
  if (route.kind === 'gateway') return 'DOUBLEHBONE';
  return route.kind === 'hbone' && !local ? 'HBONE' : 'TCP';
}
