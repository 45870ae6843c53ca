// ZDS (facts: cni §9): tells the ztunnels of this node which pods to serve. Usually one is connected; during its upgrade two are.
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { WorkloadRequest } from '#shared/gen/istio/zds/zds_pb.ts';
import { listenSeqpacket } from '#shared/os/seqpacket.ts';
import type { SeqpacketConn, SeqpacketListener } from '#shared/os/seqpacket.ts';
import type { Log } from '#shared/telemetry/log.ts';
import { ZdsSession } from './zds-session.ts';

export interface ZdsWorkload {
  uid: string;
  name: string;
  namespace: string;
  serviceAccount: string;
  /** Opens the pod's network namespace; whoever calls it closes the descriptor. */
  openNetns(): number;
}

/** A pod that ztunnel should keep serving although its namespace cannot be handed over now. */
export interface KeptWorkload {
  keep: string;
}

export interface ZdsServerOptions {
  /** The pods at this moment: what a ztunnel hears first. */
  snapshot(): readonly (ZdsWorkload | KeptWorkload)[];
  /** After each snapshot: which pods the ztunnel could not take. */
  onSnapshot(refused: ReadonlyMap<string, MeshError>): void;
  clock: Clock;
  log: Log;
}

/** More than an upgrade ever needs; the one that came first has to go. */
const MAX_SESSIONS = 8;

export class ZdsServer {
  #options: ZdsServerOptions;
  #listener: SeqpacketListener | undefined;
  /** In the order in which they said hello. */
  #sessions: ZdsSession[] = [];

  constructor(options: ZdsServerOptions) {
    this.#options = options;
  }

  /** Mode 0600; throws when another process listens there. */
  listen(path: string): void {
    this.#listener = listenSeqpacket(path, (conn) => void this.#serve(conn));
  }

  /** How many ztunnels are connected. */
  get connected(): number {
    return this.#sessions.length;
  }

  /** Throws when no ztunnel is connected. */
  requireZtunnel(): void {
    this.#newest();
  }

  #newest(): ZdsSession {
    const newest = this.#sessions.at(-1);
    if (newest) return newest;
    throw new MeshError('connect_failed', 'no ztunnel is connected to the CNI agent of this node');
  }

  /** Resolves when the newest ztunnel serves the pod. */
  async add(workload: ZdsWorkload): Promise<void> {
    await this.#newest().request(addPayload(workload), () => workload.openNetns());
  }

  /** Resolves when no connected ztunnel serves the pod any more. One that goes away meanwhile has nothing to forget. */
  async remove(uid: string): Promise<void> {
    const forget = async (session: ZdsSession): Promise<void> => {
      try {
        await session.request({ case: 'del', value: { $typeName: 'istio.workload.zds.DelWorkload', uid } });
      } catch (error) {
        if (session.alive) throw error;
      }
    };
    await Promise.all(this.#sessions.map(forget));
  }

  close(): void {
    this.#listener?.close();
    for (const session of this.#sessions) session.close();
  }

  async #serve(conn: SeqpacketConn): Promise<void> {
    const { clock, log } = this.#options;
    const session = new ZdsSession(conn, clock);
    try {
      await session.start();
    } catch (error) {
      log.warn('a ztunnel could not connect', { error: MeshError.from(error) });
      return;
    }
    // Listed and its snapshot queued in one turn: every change after this follows the snapshot on the same connection.
    this.#sessions.push(session);
    if (this.#sessions.length > MAX_SESSIONS) this.#sessions[0]?.close();
    log.info('ztunnel connected', { connections: this.#sessions.length });
    const sent = this.#sendSnapshot(session);
    void session.ended.then(() => {
      this.#sessions = this.#sessions.filter((other) => other !== session);
      log.info('ztunnel disconnected', { connections: this.#sessions.length, error: session.fault });
    });
    try {
      this.#options.onSnapshot(await sent);
    } catch (error) {
      log.warn('snapshot failed', { error: MeshError.from(error) });
      session.close();
    }
  }

  /** A pod that is refused does not stop the others; a lost connection does. */
  async #sendSnapshot(session: ZdsSession): Promise<Map<string, MeshError>> {
    const refused = new Map<string, MeshError>();
    const requests = this.#options.snapshot().map(async (entry) => {
      try {
        if ('keep' in entry) await session.request(keepPayload(entry.keep));
        else await session.request(addPayload(entry), () => entry.openNetns());
      } catch (error) {
        refused.set('keep' in entry ? entry.keep : entry.uid, MeshError.from(error));
      }
    });
    const sent = session.request({ case: 'snapshotSent', value: { $typeName: 'istio.workload.zds.SnapshotSent' } });
    await Promise.all(requests);
    await sent;
    return refused;
  }
}

function addPayload({ uid, name, namespace, serviceAccount }: ZdsWorkload): WorkloadRequest['payload'] {
  const workloadInfo = { $typeName: 'istio.workload.zds.WorkloadInfo', name, namespace, serviceAccount } as const;
  return { case: 'add', value: { $typeName: 'istio.workload.zds.AddWorkload', uid, workloadInfo } };
}

function keepPayload(uid: string): WorkloadRequest['payload'] {
  return { case: 'keep', value: { $typeName: 'istio.workload.zds.KeepWorkload', uid } };
}
