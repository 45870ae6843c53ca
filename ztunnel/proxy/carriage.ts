// A connection from when both of its sides are open until it is over, whatever ends it. It is one object: a node has tens of thousands of
// them, most of them silent, and what is short-lived pays for each further one too.
import { nextId } from '#shared/collections/id-table.ts';
import { MeshError } from '#shared/errors.ts';
import type { RelayResult } from '#shared/hbone/relay.ts';
import { Relay } from '#shared/hbone/relay.ts';
import { codeName, Http2Code } from '#shared/http2/frames.ts';
import type { CancelListener } from '#shared/lifecycle/cancel.ts';
import type { ByteStream, CloseReason } from '#shared/reactor/api.ts';
import type { ConnectionResult } from '../telemetry/connection-result.ts';

export abstract class Carriage extends Relay implements CancelListener {
  readonly id = nextId();
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
    Carriage.#end(this, reason);
  }

  /** It goes on elsewhere: nothing of it is left here. */
  protected leave(reason: MeshError): void {
    Carriage.#end(this, reason);
  }

  protected override onOver({ downstream, upstream }: RelayResult): void {
    Carriage.#end(this, faultOf(downstream) ?? faultOf(upstream));
  }

  /** Called once: gives back what it took up, and tells its end. */
  protected abstract ended(error: MeshError | undefined): void;

  /** Static: an object of a class with private methods takes eight bytes to say so. */
  static #end(carriage: Carriage, error: MeshError | undefined): void {
    if (carriage.#ended) return;
    carriage.#ended = true;
    carriage.ended(error);
  }
}

/** How a peer says that the application has gone or wants nothing more (facts: ztunnel 5). */
const ORDERLY: ReadonlySet<number> = new Set([Http2Code.noError, Http2Code.cancel, Http2Code.streamClosed]);

/** A reset by an application, at either side, is an end like any other; what a peer's proxy gave up for a fault is not. */
function faultOf(reason: CloseReason): MeshError | undefined {
  if (reason.kind === 'error') return reason.error;
  if (reason.kind !== 'reset' || !reason.remote || reason.code === undefined || ORDERLY.has(reason.code)) return undefined;
  return new MeshError('reset', `the peer reset the tunnel (${codeName(reason.code)})`);
}
