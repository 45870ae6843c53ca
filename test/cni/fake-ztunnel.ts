// The ztunnel side of ZDS as a test needs it: says hello, keeps what it is told, acknowledges as the test wishes.
import { closeSync } from 'node:fs';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Test } from 'tap';
import { Version, WorkloadRequestSchema, WorkloadResponseSchema, ZdsHelloSchema } from '../../shared/gen/istio/zds/zds_pb.ts';
import { netnsIdentity } from '../../shared/os/netns.ts';
import { connectSeqpacket } from '../../shared/os/seqpacket.ts';
import type { SeqpacketConn } from '../../shared/os/seqpacket.ts';

export class FakeZtunnel {
  /** `add UID NS/NAME SA`, `keep UID`, `del UID`, `snapshot`. */
  readonly heard: string[] = [];
  /** Namespace identity of each pod that it serves. */
  readonly serving = new Map<string, string>();
  /** The error of the next acks, by uid; 'silent' answers nothing. */
  readonly refuse = new Map<string, string>();
  readonly conn: SeqpacketConn;
  ended = false;
  #waiters: (() => void)[] = [];

  constructor(conn: SeqpacketConn) {
    this.conn = conn;
    void this.#read();
  }

  static async connect(t: Test, path: string, version: Version = Version.V1): Promise<FakeZtunnel> {
    const ztunnel = new FakeZtunnel(await connectSeqpacket(path));
    t.teardown(() => ztunnel.conn.close());
    await ztunnel.conn.send(toBinary(ZdsHelloSchema, create(ZdsHelloSchema, { version })));
    return ztunnel;
  }

  /** Waits until a line was heard (or until the condition holds); rejects after five seconds. */
  async until(condition: string | (() => boolean)): Promise<void> {
    const holds = typeof condition === 'string' ? () => this.heard.includes(condition) : condition;
    const deadline = Date.now() + 5000;
    while (!holds()) {
      if (Date.now() > deadline) throw new Error(`not heard: ${String(condition)}; heard: ${this.heard.join(' | ')}`);
      await new Promise<void>((resolve) => {
        this.#waiters.push(resolve);
        setTimeout(resolve, 100);
      });
    }
  }

  async #read(): Promise<void> {
    for (;;) {
      const message = await this.conn.receive().catch(() => undefined);
      if (!message) break;
      const { payload } = fromBinary(WorkloadRequestSchema, message.data);
      const [fd] = message.fds;
      let uid = '';
      if (payload.case === 'add') {
        ({ uid } = payload.value);
        const info = payload.value.workloadInfo;
        this.heard.push(`add ${uid} ${info?.namespace}/${info?.name} ${info?.serviceAccount}`);
        this.serving.set(uid, fd === undefined ? 'no descriptor' : netnsIdentity(fd));
      } else if (payload.case === 'del' || payload.case === 'keep') {
        ({ uid } = payload.value);
        this.heard.push(`${payload.case} ${uid}`);
        if (payload.case === 'del') this.serving.delete(uid);
      } else this.heard.push('snapshot');
      if (fd !== undefined) closeSync(fd);
      const error = this.refuse.get(uid) ?? '';
      if (error !== 'silent') await this.conn.send(ack(error)).catch(() => undefined);
      for (const wake of this.#waiters.splice(0)) wake();
    }
    this.ended = true;
    for (const wake of this.#waiters.splice(0)) wake();
  }
}

export function ack(error: string): Uint8Array {
  return toBinary(WorkloadResponseSchema, create(WorkloadResponseSchema, { payload: { case: 'ack', value: { error } } }));
}
