// What keeps a row from being better, in the terms of what it measures: a few words, a colon, and what they follow from. Pure.
import type { Sample } from './loads.ts';
import type { Metric } from './rows.ts';

/** Share of a core from which on a thread counts as one that has no more to give: the rest goes to switches and to what it waits for. */
const FULL = 0.85;
/** Share of the machine from which on there is nothing left for anybody. */
const EXHAUSTED = 0.95;

export function limitOf(metric: Metric, sample: Sample): string {
  const value = (field: string, digits = 1): string => (sample[field] ?? 0).toFixed(digits);
  switch (metric) {
    case 'worst':
      return `${cpuLimit(sample)}; slowest answer on a kept connection ${value('worstKept')} ms, on a new one ${value('worstNew')} ms; ${value('failures', 0)} of ${value('requests', 0)} requests had none`;
    case 'held':
      return `windows: each writer got rid of ${value('taken')} MiB before it was blocked, by windows and buffers that grow with them`;
    case 'idle':
      return `${(sample['idleAnonymous'] ?? 0) * 2 > (sample['idle'] ?? 0) ? 'heap' : 'mapped files'}: ${value('idleAnonymous')} MB of it anonymous (heap, buffers, stacks), the rest pages of files, most of them of the node binary`;
    case 'perConnection':
      return `objects of a connection: ${value('outboundEnd')} KB at the client's end, ${value('inboundEnd')} KB at the server's, with kept buffers and its part of a tunnel`;
    case 'perEndpoint':
      return 'OpenSSL session: with its memory buffers and the objects of a connection';
    case 'cpuPerPair':
    case 'perSecond':
      return 'CPU: one thread does both ends of the handshake, and their TCP';
    case 'gbps':
    case 'rps':
      return `${cpuLimit(sample)}${ceiling(sample[metric] ?? 0, sample)}`;
    case 'cpuPerGb':
    case 'cpuPerRequest':
    case 'p50':
    case 'p99':
      return cpuLimit(sample);
  }
}

/** Where the CPU went while it was measured. `threads` of all proxies together carry connections on this way. */
function cpuLimit({ cores = 0, threads = 0, user = 0, machine = 0 }: Sample): string {
  const percent = (share: number): string => `${Math.round(share * 100)} %`;
  const proxies = `proxies used ${cores.toFixed(2)} cores, ${percent(user)} of it in user mode, ${percent(1 - user)} in the kernel`;
  if (machine > EXHAUSTED) return `CPU of the machine: it had none left; ${proxies}`;
  const each = threads === 1 ? 'the thread that serves is' : `all ${threads} threads that serve are`;
  if (threads > 0 && cores > FULL * threads) return `CPU of the proxies: ${each} at a full core; ${proxies}`;
  return `waiting: the machine was ${percent(machine)} busy; ${proxies}`;
}

/** What is left for proxies that cost nothing, where the machine has none left: clients and servers take theirs whatever is in between. */
function ceiling(value: number, { cores = 0, others = 0, machine = 0 }: Sample): string {
  if (machine <= EXHAUSTED || others <= 0) return '';
  const most = (value * (cores + others)) / others;
  const rest = others.toFixed(2);
  return `; clients, servers and the kernel used ${rest}, so that with proxies that cost nothing it were ${most < 100 ? most.toFixed(1) : Math.round(most)}`;
}
