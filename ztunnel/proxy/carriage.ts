// A connection from when both of its sides are open until it is over, whatever ends it. It is one object: a node has tens of thousands of
// them, most of them silent, and what is short-lived pays for each further one too.
import type { MeshError } from '#shared/errors.ts';
import type { RelayResult } from '#shared/hbone/relay.ts';
import { Relay } from '#shared/hbone/relay.ts';
import type { CancelListener } from '#shared/lifecycle/cancel.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import type { ConnectionResult } from '../telemetry/connection-result.ts';

export abstract class Carriage extends Relay implements CancelListener {
  #ended = false;

  /** Starts both streams, whose bytes `result` tells. */
  protected constructor(client: ByteStream, server: ByteStream, result: ConnectionResult) {
    super(client, server);
    result.carry(this);
  }

  /** It must end: a policy changed, or its pod goes. */
  onCancel(reason: MeshError): void {
    if (this.#ended) return;
    this.stop();
    this.#end(reason);
  }

  /** It goes on elsewhere: nothing of it is left here. */
  protected leave(reason: MeshError): void {
    this.#end(reason);
  }

  /** A reset by either side is an end like any other. */
  protected override onOver({ downstream, upstream }: RelayResult): void {
    for (const reason of [downstream, upstream]) if (reason.kind === 'error') return this.#end(reason.error);
    return this.#end();
  }

  /** Called once: gives back what it took up, and tells its end. */
  protected abstract ended(error: MeshError | undefined): void;

  #end(error?: MeshError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.ended(error);
  }
}
