// What every process tells about itself: descriptors, memory, CPU, event-loop delay.
import { readdirSync, readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Metrics } from './metrics.ts';

/** Registers process_* and nodejs_* metrics; returns what ends the measuring. */
export function processMetrics(metrics: Metrics): Disposable {
  const startTime = Math.round(performance.timeOrigin) / 1000;
  // Milliseconds between samples: each one wakes an idle process.
  const delay = monitorEventLoopDelay({ resolution: 100 });
  delay.enable();
  const gauge = (name: string, help: string, read: () => number | undefined): void => {
    metrics.gauge(name, help, [], (family) => {
      const value = read();
      if (value !== undefined) family.cell().value = value;
    });
  };
  gauge('process_open_fds', 'Open file descriptors', openDescriptors);
  gauge('process_max_fds', 'Limit of open file descriptors', maxDescriptors);
  gauge('process_start_time_seconds', 'Start of the process, seconds since the epoch', () => startTime);
  gauge('process_resident_memory_bytes', 'Resident memory', () => process.memoryUsage.rss());
  gauge('nodejs_heap_used_bytes', 'Memory of live JavaScript objects', () => process.memoryUsage().heapUsed);
  gauge('nodejs_external_memory_bytes', 'Memory of buffers outside the heap', () => process.memoryUsage().external);
  gauge('nodejs_eventloop_delay_p99_seconds', 'Delay of the main event loop since the last scrape, 99th percentile', () => {
    const p99 = delay.percentile(99) / 1e9;
    delay.reset();
    return p99;
  });
  metrics.counter('process_cpu_seconds_total', 'CPU time, user and system', [], (family) => {
    const { user, system } = process.cpuUsage();
    family.cell().value = (user + system) / 1e6;
  });
  return { [Symbol.dispose]: () => delay.disable() };
}

function openDescriptors(): number | undefined {
  try {
    // The listing itself holds one.
    return readdirSync('/proc/self/fd').length - 1;
  } catch {
    return undefined;
  }
}

function maxDescriptors(): number | undefined {
  try {
    const match = /^Max open files\s+(\d+)/mu.exec(readFileSync('/proc/self/limits', 'utf8'));
    return match ? Number(match[1]) : undefined;
  } catch {
    return undefined;
  }
}
