// The load generators' own reports, read into numbers.
import { MeshError } from '#shared/errors.ts';

export interface Throughput {
  /** Bytes that the receiver got. */
  readonly bytes: number;
  readonly gbps: number;
}

export interface Requests {
  readonly requests: number;
  readonly perSecond: number;
  /** Microseconds. */
  readonly p50: number;
  readonly p99: number;
  /** Socket errors and answers that were not 2xx or 3xx. */
  readonly errors: number;
}

/** The report of `iperf3 -J`. */
export function parseIperf(text: string): Throughput {
  const report = parseJson(text) as {
    error?: string;
    end?: { sum_received?: { bytes?: number; bits_per_second?: number } };
  };
  const received = report.end?.sum_received;
  if (report.error !== undefined || received?.bytes === undefined)
    throw new MeshError('internal', `iperf3: ${report.error ?? 'no sum of received bytes in its report'}`);
  return { bytes: received.bytes, gbps: (received.bits_per_second ?? 0) / 1e9 };
}

/** The report of `wrk --latency`. */
export function parseWrk(text: string): Requests {
  const number = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);
  const perSecond = number(/^Requests\/sec:\s+([\d.]+)/mu);
  if (perSecond === 0) throw new MeshError('internal', `wrk: no answers: ${text.trim().slice(-300)}`);
  const sockets = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/u.exec(text)?.slice(1) ?? [];
  return {
    requests: number(/^\s+(\d+) requests in /mu),
    perSecond,
    p50: microseconds(/^\s+50%\s+(\S+)/mu.exec(text)?.[1] ?? ''),
    p99: microseconds(/^\s+99%\s+(\S+)/mu.exec(text)?.[1] ?? ''),
    errors: sockets.reduce((sum, count) => sum + Number(count), number(/Non-2xx or 3xx responses: (\d+)/u)),
  };
}

/** Share of requests that may fail before the others say nothing either. */
export const MOST_ERRORS = 0.001;

/** Throws when too many failed: an error costs a proxy less than an answer, so a rate with errors in it is too good. */
export function requireAnswers({ requests, errors }: Pick<Requests, 'requests' | 'errors'>, what: string, report: string): void {
  if (errors > requests * MOST_ERRORS)
    throw new MeshError('internal', `${what}: ${errors} of ${requests} requests failed:\n${report.trim().slice(-800)}`);
}

/** `380.00us`, `1.27ms`, `2.00s`. */
export function microseconds(text: string): number {
  const [, value = '', unit = ''] = /^([\d.]+)(us|ms|s|m)$/u.exec(text) ?? [];
  const factor = { us: 1, ms: 1e3, s: 1e6, m: 6e7 }[unit];
  return factor === undefined ? 0 : Number(value) * factor;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new MeshError('internal', `iperf3: not a report: ${text.trim().slice(-300)}`, { cause: error });
  }
}

/** The report of `h2load`, which has no quantiles: the mean stands for p50, the slowest request for p99. */
export function parseH2load(text: string): Requests {
  const number = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);
  const perSecond = number(/^finished in \S+, ([\d.]+) req\/s/mu);
  if (perSecond === 0) throw new MeshError('internal', `h2load: no answers: ${text.trim().slice(-300)}`);
  const mean = microseconds(/^time for request:\s+\S+\s+\S+\s+(\S+)/mu.exec(text)?.[1] ?? '');
  return {
    requests: number(/ (\d+) succeeded/u),
    perSecond,
    p50: mean,
    p99: microseconds(/^time for request:\s+\S+\s+(\S+)/mu.exec(text)?.[1] ?? ''),
    errors: number(/ (\d+) failed/u),
  };
}
