// What a CNI agent with a fault may put on the wire of ZDS, from a socket that sends it byte for byte and descriptor for descriptor: it is
// told so, the session begins anew, and no descriptor stays open.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { closeSync, mkdtempSync, openSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { WorkloadRequestSchema, WorkloadResponseSchema, type WorkloadRequest } from '#shared/gen/istio/zds/zds_pb.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import { receiveMessage, type FdMessage } from '#shared/os/fd-message.ts';
import { AF, encodeUnixSockaddr, MSG, SCM_RIGHTS, SOCK, SOL } from '#shared/os/layout.ts';
import { addressOf } from '#shared/os/memory.ts';
import { libc } from '#shared/os/syscalls.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { PodManager } from '../../../ztunnel/inpod/pod-manager.ts';
import { ZdsClient } from '../../../ztunnel/inpod/zds-client.ts';
import { eventually } from '../../harness/mesh-lab.ts';

/** sendmsg(2) with any number of descriptors in one control message. */
function send(socket: number, data: Uint8Array, fds: readonly number[]): void {
  const control = Buffer.alloc(fds.length === 0 ? 0 : 16 + Math.ceil((4 * fds.length) / 8) * 8);
  if (fds.length > 0) {
    control.writeBigUInt64LE(BigInt(16 + 4 * fds.length), 0);
    control.writeInt32LE(SOL.SOCKET, 8);
    control.writeInt32LE(SCM_RIGHTS, 12);
    for (const [index, fd] of fds.entries()) control.writeInt32LE(fd, 16 + 4 * index);
  }
  const iovec = Buffer.alloc(16);
  iovec.writeBigUInt64LE(BigInt(addressOf(data)), 0);
  iovec.writeBigUInt64LE(BigInt(data.length), 8);
  const message = Buffer.alloc(56);
  message.writeBigUInt64LE(BigInt(addressOf(iovec)), 16);
  message.writeBigUInt64LE(1n, 24);
  if (control.length > 0) message.writeBigUInt64LE(BigInt(addressOf(control)), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  if (libc().sendmsg(socket, message, MSG.NOSIGNAL) !== data.length) throw new Error('sendmsg failed');
}

/** An agent by hand: it listens, and takes one session after the other. */
class RawAgent {
  readonly #listener: number;
  readonly #space = Buffer.alloc(65_536);
  #session = -1;

  constructor(t: Test, path: string) {
    this.#listener = libc().socket(AF.UNIX, SOCK.SEQPACKET | SOCK.NONBLOCK | SOCK.CLOEXEC, 0);
    const address = encodeUnixSockaddr(path);
    if (libc().bind(this.#listener, address, address.length) !== 0 || libc().listen(this.#listener, 4) !== 0)
      throw new Error('cannot listen');
    t.teardown(() => {
      closeSync(this.#listener);
      if (this.#session >= 0) closeSync(this.#session);
    });
  }

  /** The next session, with its hello read and an empty snapshot sent. */
  async begin(): Promise<void> {
    if (this.#session >= 0) closeSync(this.#session);
    this.#session = await eventually('a session', () => {
      const fd = libc().accept4(this.#listener, null, null, SOCK.NONBLOCK | SOCK.CLOEXEC);
      return fd < 0 ? undefined : fd;
    });
    await this.#receive();
    await this.ask({ case: 'snapshotSent', value: {} });
  }

  /** The error of the answer. */
  async ask(payload: object, ...fds: number[]): Promise<string> {
    const request = create(WorkloadRequestSchema, { payload: payload as WorkloadRequest['payload'] });
    send(this.#session, toBinary(WorkloadRequestSchema, request), fds);
    const { data } = await this.#receive();
    return fromBinary(WorkloadResponseSchema, data).payload.value?.error ?? '';
  }

  #receive(): Promise<FdMessage> {
    return eventually('a message', () => {
      const message = receiveMessage(this.#session, this.#space);
      return message === -1 || message === 0 ? undefined : message;
    });
  }
}

const add = (uid: string, workloadInfo?: object) => ({ case: 'add', value: { uid, ...(workloadInfo ? { workloadInfo } : {}) } });
const INFO = { name: 'x', namespace: 'shop', serviceAccount: 'x' };

const FAULTS: [what: string, payload: object, descriptors: number, error: RegExp][] = [
  ['an add with two descriptors', add('x', INFO), 2, /carried more than one descriptor/u],
  ['an add with five', add('x', INFO), 5, /carried more than one descriptor/u],
  ['an add without workload_info', add('x'), 1, /add x: workload_info is missing/u],
  ['an add without a uid', add('', INFO), 1, /add: uid is empty/u],
];

for (const [what, payload, count, error] of FAULTS)
  t.test(`${what}: refused, counted, and nothing of it stays`, async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'culvert-agent-'));
    t.teardown(() => rmSync(dir, { recursive: true }));
    const path = join(dir, 'zds.sock');
    const agent = new RawAgent(t, path);
    const log = new Logging({ sink: { write: () => undefined } }).scope('inpod');
    const metrics = new Metrics();
    const started: string[] = [];
    const start = async (uid: string) => {
      started.push(uid);
      return { stop: () => Promise.resolve() };
    };
    const pods = new PodManager({ clock: systemClock, log, metrics, start });
    const client = new ZdsClient({ path, pods, readiness: new Readiness(), clock: systemClock, log, metrics });
    const running = client.run();
    t.teardown(() => client.close());
    await agent.begin();
    const own = Array.from({ length: count }, () => openSync('/proc/self/ns/net', 'r'));
    t.teardown(() => own.forEach((fd) => closeSync(fd)));
    const before = openNamespaces();
    t.match(await agent.ask(payload, ...own), error);
    t.equal(openNamespaces(), before, 'no descriptor was kept');
    await agent.begin();
    t.equal(await agent.ask(add('good', INFO), own[0] ?? -1), '', 'the next session serves');
    t.same(started, ['good']);
    const { body } = await metrics.render();
    t.match(body, /culvert_zds_sessions_total\{result="protocol_error"\} 1/u);
    t.match(body, /culvert_zds_refusals_total 1/u);
    client.close();
    await running;
  });

/** How many descriptors of this process are network namespaces. */
function openNamespaces(): number {
  const folder = '/proc/self/fd';
  const targets = readdirSync(folder).map((fd) => {
    try {
      return readlinkSync(join(folder, fd));
    } catch {
      // The one that lists the folder is gone by now.
      return '';
    }
  });
  return targets.filter((target) => target.startsWith('net:[')).length;
}
