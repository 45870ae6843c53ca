// The request headers of a tunnel: who calls, for whom, and a trace to find both ends' log lines by (facts: ztunnel 5).
import { randomBytes } from 'node:crypto';
import type { HostPort } from '#shared/address.ts';
import type { HeaderList } from '#shared/hbone/api.ts';
import { formatBaggage } from '#shared/hbone/baggage.ts';
import { formatForwarded } from '#shared/hbone/forwarded.ts';
import type { Workload } from '../state/model.ts';
import { baggageOf } from '../telemetry/peer.ts';

export function tunnelHeaders(source: Workload, from: HostPort, serviceHost: string | undefined): HeaderList {
  return [
    ['baggage', formatBaggage(baggageOf(source))],
    ['forwarded', formatForwarded(from, serviceHost)],
    ['traceparent', `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-00`],
  ];
}
