// What keeps a row from its bar, in the terms of what it measures. Pure.
import type { Sample } from './loads.ts';
import type { Metric } from './rows.ts';

export function limitOf(metric: Metric, sample: Sample): string {
  const value = (field: string, digits = 1): string => (sample[field] ?? 0).toFixed(digits);
  switch (metric) {
    case 'worst':
      return `slowest answer on a kept connection ${value('worstKept')} ms, on a new one ${value('worstNew')} ms; ${value('failures', 0)} of ${value('requests', 0)} requests had none; ${cpuLimit(sample)}`;
    case 'held':
      return `each writer got rid of ${value('taken')} MiB before it was blocked: windows, and buffers that grow with them`;
    case 'idle':
      return `${value('idleAnonymous')} MB of it anonymous (heap, buffers, stacks), the rest pages of files, most of them of the node binary`;
    case 'perConnection':
      return `${value('outboundEnd')} KB at the client's end, ${value('inboundEnd')} KB at the server's: objects and kept buffers of a connection, and its part of a tunnel`;
    case 'perEndpoint':
      return 'OpenSSL session, its memory buffers and the objects of a connection';
    case 'cpuPerPair':
    case 'perSecond':
      return 'CPU: one thread does both ends of the handshake, and their TCP';
    case 'gbps':
    case 'cpuPerGb':
    case 'rps':
    case 'cpuPerRequest':
    case 'p50':
    case 'p99':
      return cpuLimit(sample);
  }
}

/** Where the CPU went while it was measured. */
function cpuLimit({ cores = 0, user = 0, machine = 0 }: Sample): string {
  const percent = (share: number): string => `${Math.round(share * 100)} %`;
  const proxies = `proxies used ${cores.toFixed(2)} cores, ${percent(user)} of it in user mode, ${percent(1 - user)} in the kernel`;
  if (machine > 0.95) return `CPU: the machine had none left; ${proxies}`;
  if (cores > 1.7) return `CPU: both proxies at one full core; ${proxies}`;
  return `waiting: the machine was ${percent(machine)} busy; ${proxies}`;
}
