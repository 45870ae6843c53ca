// What one stream asked for of one type, and what it was sent. The two protocols differ in how they ask and in what a response
// holds (delta-subscription.ts, sotw-subscription.ts); acknowledgement is the same.
import { randomUUID } from 'node:crypto';
import type { ResourceSet } from '../snapshot/resource-set.ts';

/** A request of either protocol, decoded. */
export interface AdsRequest {
  readonly typeUrl: string;
  readonly responseNonce: string;
  /** Why the last response was refused. */
  readonly errorDetail: string | undefined;
  /** Delta: names to add. SotW: all names. */
  readonly names: readonly string[];
  /** Delta only. */
  readonly unsubscribe: readonly string[];
  /** Delta only, with the first request of a type: what the client still has from an earlier stream. */
  readonly initialVersions: Readonly<Record<string, string>>;
}

export interface AdsResponse {
  readonly bytes: Buffer;
  /** Names of what it sets. */
  readonly names: readonly string[];
  readonly removed: number;
}

export interface AckStatus {
  nonceSent: string;
  nonceAcked: string;
  /** Sequence of the snapshot that was sent, acknowledged, or refused last. */
  sent: number;
  acked: number;
  nacked: { sequence: number; reason: string } | undefined;
}

/** Responses that may be under way unacknowledged when the client itself asks for more. */
const MAX_OUTSTANDING = 4;
/** What is kept of the reason of a NACK. */
const MAX_REASON = 2048;
/** Names that one subscription may hold. */
export const MAX_NAMES = 100_000;
/** Characters of all of them together. */
export const MAX_NAME_CHARACTERS = 8 * 1024 * 1024;

/** `ack`: only an answer. `stale`: an answer to something older. */
export type RequestMeaning = 'first' | 'ack' | 'nack' | 'stale' | 'change';

export abstract class Subscription {
  readonly typeUrl: string;
  readonly status: AckStatus = { nonceSent: '', nonceAcked: '', sent: 0, acked: 0, nacked: undefined };
  /** The client asked for something that it has not been answered. */
  owed = false;
  #outstanding: { nonce: string; sequence: number }[] = [];

  constructor(typeUrl: string) {
    this.typeUrl = typeUrl;
  }

  /** Takes a request in; afterwards `owed` says whether it wants an answer even when nothing changed. */
  accept(request: AdsRequest): RequestMeaning {
    const first = this.status.nonceSent === '' && request.responseNonce === '';
    const answered = this.#acknowledge(request);
    const changed = this.change(request, answered);
    this.owed ||= changed;
    if (answered !== undefined) return answered;
    return first ? 'first' : 'change';
  }

  /** The response to send for a state, or undefined when there is nothing to tell. */
  respond(set: ResourceSet, sequence: number): AdsResponse | undefined {
    const nonce = randomUUID();
    const response = this.encode(set, nonce, this.owed);
    this.owed = false;
    if (!response) return undefined;
    this.status.nonceSent = nonce;
    this.status.sent = sequence;
    this.#outstanding.push({ nonce, sequence });
    return response;
  }

  /** A client that does not answer is not sent more, so that what waits for it stays bounded. */
  get mayRespond(): boolean {
    return this.#outstanding.length < (this.owed ? MAX_OUTSTANDING : 1);
  }

  /** Applies the names of the request; true when it wants an answer. */
  protected abstract change(request: AdsRequest, answered: RequestMeaning | undefined): boolean;

  /** Undefined when nothing changed and `owed` is false. */
  protected abstract encode(set: ResourceSet, nonce: string, owed: boolean): AdsResponse | undefined;

  /** Sends these again, changed or not. */
  abstract forget(names: readonly string[]): void;

  #acknowledge({ responseNonce, errorDetail }: AdsRequest): 'ack' | 'nack' | 'stale' | undefined {
    if (responseNonce === '') return undefined;
    const index = this.#outstanding.findIndex(({ nonce }) => nonce === responseNonce);
    const answered = this.#outstanding[index];
    if (!answered) return responseNonce === this.status.nonceAcked ? undefined : 'stale';
    this.#outstanding.splice(0, index + 1);
    this.status.nonceAcked = responseNonce;
    if (errorDetail === undefined) {
      this.status.acked = answered.sequence;
      this.status.nacked = undefined;
      return 'ack';
    }
    this.status.nacked = { sequence: answered.sequence, reason: errorDetail.slice(0, MAX_REASON) };
    return 'nack';
  }
}
