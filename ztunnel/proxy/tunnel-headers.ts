// The request headers of a tunnel: who calls, for whom, and a trace to find both ends' log lines by (facts: ztunnel 5).
import { randomFillSync } from 'node:crypto';
import type { HostPort } from '#shared/address.ts';
import type { HeaderList } from '#shared/hbone/api.ts';
import { formatForwarded } from '#shared/hbone/forwarded.ts';
import type { Workload } from '../state/model.ts';
import { baggageTextOf } from '../telemetry/peer.ts';

const TRACE_ID = 16;
const SPAN_ID = 8;

/** Makes the headers of one thread's tunnels. */
export class TunnelHeaders {
  /** Random bytes drawn at once: a draw costs the same for one trace as for hundreds. */
  readonly #random = Buffer.alloc((TRACE_ID + SPAN_ID) * 256);
  #used = this.#random.length;

  of(source: Workload, from: HostPort, serviceHost: string | undefined): HeaderList {
    return [
      ['baggage', baggageTextOf(source)],
      ['forwarded', formatForwarded(from, serviceHost)],
      ['traceparent', `00-${this.#draw(TRACE_ID)}-${this.#draw(SPAN_ID)}-00`],
    ];
  }

  #draw(bytes: number): string {
    if (this.#used + bytes > this.#random.length) {
      randomFillSync(this.#random);
      this.#used = 0;
    }
    this.#used += bytes;
    return this.#random.toString('hex', this.#used - bytes, this.#used);
  }
}
