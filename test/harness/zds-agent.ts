// The CNI agent's end of ZDS, as a test drives it: one socket, and the pods that it has told of so far.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Test } from 'tap';
import type { WorkloadRequest } from '#shared/gen/istio/zds/zds_pb.ts';
import { WorkloadRequestSchema, WorkloadResponseSchema, ZdsHelloSchema } from '#shared/gen/istio/zds/zds_pb.ts';
import type { SeqpacketConn } from '#shared/os/seqpacket.ts';
import { listenSeqpacket } from '#shared/os/seqpacket.ts';

export interface AgentPod {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Descriptor of its network namespace. */
  readonly netns: number;
}

export class ZdsAgent {
  readonly pods = new Map<string, AgentPod>();
  /** Errors of the answers to the last session's snapshot. */
  readonly refusals: string[] = [];
  /** Hang up on everybody who comes, as an agent that is not there. */
  refuse = false;
  #session = Promise.withResolvers<SeqpacketConn>();
  #begun = false;
  #current: SeqpacketConn | undefined;

  constructor(t: Pick<Test, 'teardown'>, path: string) {
    const listener = listenSeqpacket(path, (conn) => void this.#serve(conn));
    t.teardown(() => {
      listener.close();
      this.#current?.close();
    });
  }

  /** Adds or replaces a pod; resolves with the ztunnel's error, '' when it is served. */
  async add(pod: AgentPod): Promise<string> {
    this.pods.set(pod.uid, pod);
    return this.send({ case: 'add', value: addOf(pod) }, pod.netns);
  }

  async remove(uid: string): Promise<string> {
    this.pods.delete(uid);
    return this.send({ case: 'del', value: { uid } });
  }

  /** Sends anything in the present session, once its snapshot was sent. */
  async send(payload: Payload, fd?: number): Promise<string> {
    return exchange(await this.#session.promise, payload, fd);
  }

  /** Sends raw bytes; resolves with the error of the answer. */
  async sendRaw(bytes: Uint8Array): Promise<string> {
    return exchangeRaw(await this.#session.promise, bytes);
  }

  /** Resolves when a session's snapshot was sent. */
  async connected(): Promise<void> {
    await this.#session.promise;
  }

  /** The ztunnel is about to be replaced: connected() waits for the session of the next one. */
  expectAnother(): void {
    this.#renew();
  }

  /** Hangs up, as a killed agent does; the ztunnel comes back by itself. */
  hangUp(): void {
    this.#renew();
    this.#current?.close();
  }

  /** Who waits for a session that has not begun yet goes on waiting for the same. */
  #renew(): void {
    if (this.#begun) this.#session = Promise.withResolvers();
    this.#begun = false;
  }

  async #serve(conn: SeqpacketConn): Promise<void> {
    if (this.refuse) return conn.close();
    this.#renew();
    this.#current = conn;
    try {
      await this.#snapshot(conn);
    } catch {
      // The ztunnel was killed or hung up: the next session tells all again.
      conn.close();
    }
  }

  async #snapshot(conn: SeqpacketConn): Promise<void> {
    const hello = await conn.receive();
    if (!hello || fromBinary(ZdsHelloSchema, hello.data).version !== 1) throw new Error('the ztunnel did not say hello');
    for (const pod of this.pods.values()) {
      const error = await exchange(conn, { case: 'add', value: addOf(pod) }, pod.netns);
      if (error !== '') this.refusals.push(error);
    }
    await exchange(conn, { case: 'snapshotSent', value: {} });
    this.#begun = true;
    this.#session.resolve(conn);
  }
}

type Payload =
  | { case: 'add'; value: ReturnType<typeof addOf> }
  | { case: 'del' | 'keep'; value: { uid: string } }
  | { case: 'snapshotSent'; value: object };

function addOf({ uid, name, namespace, serviceAccount }: AgentPod) {
  return { uid, workloadInfo: { name, namespace, serviceAccount } };
}

async function exchange(conn: SeqpacketConn, payload: Payload, fd?: number): Promise<string> {
  const request = create(WorkloadRequestSchema, { payload: payload as WorkloadRequest['payload'] });
  return exchangeRaw(conn, toBinary(WorkloadRequestSchema, request), fd);
}

async function exchangeRaw(conn: SeqpacketConn, request: Uint8Array, fd?: number): Promise<string> {
  await conn.send(request, fd);
  const answer = await conn.receive();
  if (!answer) throw new Error('the ztunnel hung up instead of answering');
  return fromBinary(WorkloadResponseSchema, answer.data).payload.value?.error ?? '';
}
