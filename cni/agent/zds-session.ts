// One ztunnel's ZDS connection, seen from the agent: it says hello, then every request of ours is answered by one ack, in order.
import { closeSync } from 'node:fs';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { Version, WorkloadRequestSchema, WorkloadResponseSchema, ZdsHelloSchema } from '#shared/gen/istio/zds/zds_pb.ts';
import type { WorkloadRequest } from '#shared/gen/istio/zds/zds_pb.ts';
import type { FdMessage } from '#shared/os/fd-message.ts';
import type { SeqpacketConn } from '#shared/os/seqpacket.ts';

/** Milliseconds that ztunnel has for its hello and for each ack: less than the CNI plugin waits for the agent. */
export const ACK_TIMEOUT = 4000;

export class ZdsSession {
  #conn: SeqpacketConn;
  #clock: Clock;
  #last: Promise<unknown> = Promise.resolve();
  #awaited: PromiseWithResolvers<FdMessage> | undefined;
  #end = Promise.withResolvers<void>();
  #over = false;
  #fault: MeshError | undefined;

  constructor(conn: SeqpacketConn, clock: Clock) {
    this.#conn = conn;
    this.#clock = clock;
  }

  /** Resolves when the connection is over, whoever ended it. */
  get ended(): Promise<void> {
    return this.#end.promise;
  }

  get alive(): boolean {
    return !this.#over;
  }

  /** Why this side ended it; undefined when ztunnel went away. */
  get fault(): MeshError | undefined {
    return this.#fault;
  }

  /** Waits for the hello; rejects, with the connection closed, on anything else. */
  async start(): Promise<void> {
    const awaited = this.#expect();
    void this.#read();
    const { data } = await this.#answer('hello', awaited);
    const { version } = this.#parse(() => fromBinary(ZdsHelloSchema, data), 'hello');
    if (version !== Version.V1) throw this.#fail(`ztunnel speaks ZDS version ${version}, this agent version 1`);
  }

  /**
   * Sends a request after those before it and waits for its ack. `open` gives the descriptor to send along; it is closed here.
   * Rejects with ztunnel's own words when it refuses (the session lives on), or when the session ends.
   */
  request(payload: WorkloadRequest['payload'], open?: () => number): Promise<void> {
    const sent = this.#last.then(() => this.#request(payload, open));
    this.#last = sent.catch(() => undefined);
    return sent;
  }

  close(): void {
    this.#conn.close();
  }

  async #request(payload: WorkloadRequest['payload'], open?: () => number): Promise<void> {
    const what = payload.case ?? 'request';
    if (this.#over) throw this.#endedBefore(what);
    const fd = open?.();
    const awaited = this.#expect();
    try {
      const bytes = toBinary(WorkloadRequestSchema, { $typeName: 'istio.workload.zds.WorkloadRequest', payload });
      await this.#conn.send(bytes, fd).catch((error: unknown) => {
        throw this.#fail(`cannot send ${what} to ztunnel: ${MeshError.from(error).message}`);
      });
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
    const { data } = await this.#answer(what, awaited);
    const response = this.#parse(() => fromBinary(WorkloadResponseSchema, data), what);
    if (response.payload.case !== 'ack') throw this.#fail(`ztunnel answered ${what} with something else than an ack`);
    const { error } = response.payload.value;
    if (error !== '') throw new MeshError('internal', `ztunnel refused ${what}: ${error}`);
  }

  /** A late ack would be taken for the next one, so a session that misses its time is over; ztunnel comes back for a snapshot. */
  async #answer(what: string, awaited: PromiseWithResolvers<FdMessage>): Promise<FdMessage> {
    const timer = this.#clock.after(ACK_TIMEOUT, () => {
      this.#fail(`ztunnel did not answer ${what} within ${ACK_TIMEOUT} ms`);
    });
    try {
      return await awaited.promise;
    } catch {
      throw this.#endedBefore(what);
    } finally {
      timer.cancel();
    }
  }

  #expect(): PromiseWithResolvers<FdMessage> {
    const awaited = Promise.withResolvers<FdMessage>();
    // When sending fails nobody waits for the answer any more.
    awaited.promise.catch(() => undefined);
    this.#awaited = awaited;
    return awaited;
  }

  #endedBefore(what: string): MeshError {
    return this.#fault ?? new MeshError('reset', `ztunnel closed its connection before it answered ${what}`);
  }

  /** Reads to the end, so that a ztunnel that goes away is noticed while nothing is asked of it. */
  async #read(): Promise<void> {
    for (;;) {
      const message = await this.#conn.receive().catch(() => undefined);
      if (!message) break;
      for (const fd of message.fds) closeSync(fd);
      const awaited = this.#awaited;
      this.#awaited = undefined;
      if (!awaited || message.truncated) {
        this.#fail(message.truncated ? 'ztunnel sent too long a message' : 'ztunnel sent a message that nothing asked for');
        break;
      }
      awaited.resolve(message);
    }
    this.close();
    this.#over = true;
    this.#awaited?.reject(new MeshError('reset', 'the connection is over'));
    this.#end.resolve();
  }

  #parse<T>(parse: () => T, what: string): T {
    try {
      return parse();
    } catch (error) {
      throw this.#fail(`ztunnel's answer to ${what} is no ZDS message: ${String(error)}`);
    }
  }

  #fail(reason: string): MeshError {
    this.#fault ??= new MeshError('protocol_error', reason);
    this.close();
    return this.#fault;
  }
}
