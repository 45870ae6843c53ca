// Port 15006 of a pod: connections that came in the clear, on to the application if the policies let peers without identity in.
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { Conn } from '#shared/reactor/api.ts';
import type { Workload } from '../state/model.ts';
import { networkAddress } from '../state/model.ts';
import type { ConnectionResult } from '../telemetry/connection-result.ts';
import { peerOf } from '../telemetry/peer.ts';
import { Delivered } from './delivered.ts';
import type { Admission } from './delivery.ts';
import { Delivery } from './delivery.ts';
import { guessService } from './inbound-target.ts';
import type { Pod, ProxyContext } from './pod.ts';
import { isCapturePort, workloadOf } from './pod.ts';
import type { Stay } from './stay.ts';

export class Passthrough {
  readonly #context: ProxyContext;
  readonly #pod: Pod;
  readonly #delivery: Delivery;

  constructor(context: ProxyContext, pod: Pod) {
    this.#context = context;
    this.#pod = pod;
    this.#delivery = new Delivery(context, pod);
  }

  /** Serves an accepted connection, and resolves once it is on its way; never rejects. Owns the stay. */
  async serve(conn: Conn, stay: Stay): Promise<void> {
    const startedAt = this.#context.clock.monotonic();
    const to = conn.originalDestination();
    let workload: Workload;
    try {
      if (isCapturePort(to.port, this.#context.config)) throw new MeshError('self_call', 'attempted recursive call to ourselves');
      workload = await workloadOf(this.#pod, this.#context);
    } catch (thrown) {
      stay[Symbol.dispose]();
      this.#context.telemetry.refusedEarly(conn.remote, to, 'inbound', MeshError.from(thrown));
      return conn.reset();
    }
    const result = this.#open(conn.remote, to, workload, startedAt);
    let admission: Admission | undefined;
    try {
      const request = {
        workload,
        source: conn.remote,
        identity: undefined,
        to,
        originalDestination: to,
        protocol: 'TCP' as const,
      };
      admission = this.#delivery.admit(request);
      const app = await this.#delivery.connect(to, conn.remote, admission, { redirected: true });
      const delivered = new Delivered(conn, app, { admission, result, stay, book: this.#context.relays });
      delivered.begin();
      this.#context.specimens.keep('plaintext', delivered);
    } catch (thrown) {
      admission?.[Symbol.dispose]();
      stay[Symbol.dispose]();
      conn.reset();
      result.end(MeshError.from(thrown));
    }
  }

  #open(from: HostPort, to: HostPort, workload: Workload, startedAt: number): ConnectionResult {
    const { store, telemetry, demand } = this.#context;
    // Who calls only names things in the log: it is known the next time.
    if (demand && !store.workloads.byAddress(workload.network, from.ip))
      demand.fetch(networkAddress(workload.network, from.ip)).catch(() => undefined);
    const facts = {
      reporter: 'destination' as const,
      from,
      to,
      hboneAddress: undefined,
      source: peerOf(store.workloads.byAddress(workload.network, from.ip)),
      destination: peerOf(workload),
      service: guessService(store, workload, to.port),
      mutualTls: false,
    };
    return telemetry.open(facts, startedAt);
  }
}
