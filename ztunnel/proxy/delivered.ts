// A connection into a pod, tunnelled or in the clear, once the application is connected.
import type { MeshError } from '#shared/errors.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import type { ConnectionResult } from '../telemetry/connection-result.ts';
import { Carriage } from './carriage.ts';
import type { Admission } from './delivery.ts';
import type { HandableRelay, RelayBook, RelayStory } from './relay-book.ts';
import { admissionStory } from './relay-book.ts';
import type { Stay, Stays } from './stay.ts';

export interface DeliveredParts {
  readonly admission: Admission;
  readonly result: ConnectionResult;
  readonly stay: Stay;
  /** Where it can be let go of, when both of its sides are plain sockets. */
  readonly book?: RelayBook | undefined;
}

export class Delivered extends Carriage implements HandableRelay {
  readonly #admission: Admission;
  readonly #result: ConnectionResult;
  readonly #stays: Stays;
  readonly #book: RelayBook | undefined;

  /** Owns all of it. */
  constructor(client: ByteStream, app: ByteStream, { admission, result, stay, book }: DeliveredParts) {
    super(client, app, result);
    this.#admission = admission;
    this.#result = result;
    this.#stays = stay.pass();
    this.#book = book;
  }

  /** Until its end. */
  begin(): void {
    this.#book?.add(this);
    this.#admission.add(this);
    if (this.#admission.reason) this.onCancel(this.#admission.reason);
  }

  get results(): readonly ConnectionResult[] {
    return [this.#result];
  }

  story(): RelayStory {
    const { pod, request } = this.#admission;
    return { pod, entrance: 'plaintext', admission: admissionStory(pod, request) };
  }

  handedOver(reason: MeshError): void {
    this.leave(reason);
  }

  protected override ended(error: MeshError | undefined): void {
    this.#book?.delete(this);
    this.#admission.delete(this);
    this.#admission[Symbol.dispose]();
    this.#stays.leave();
    this.#result.end(error);
  }
}
