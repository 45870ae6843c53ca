// What every process tells about itself: descriptors, memory, CPU, how busy the event loop is.
import { readdirSync, readFileSync } from 'node:fs';
import { getHeapStatistics } from 'node:v8';
import type { Metrics } from './metrics.ts';

/** Registers process_* and nodejs_* metrics, all read when somebody asks: sampling the event loop's delay would wake an idle process. */
export function processMetrics(metrics: Metrics): void {
  const startTime = Math.round(performance.timeOrigin) / 1000;
  let loop = performance.eventLoopUtilization();
  const gauge = (name: string, help: string, read: () => number | undefined): void => {
    metrics.gauge(name, help, [], (family) => {
      const value = read();
      if (value !== undefined) family.cell().value = value;
    });
  };
  gauge('process_open_fds', 'Open file descriptors', openDescriptors);
  gauge('process_max_fds', 'Limit of open file descriptors', maxDescriptors);
  gauge('process_start_time_seconds', 'Start of the process, seconds since the epoch', () => startTime);
  gauge('process_resident_memory_bytes', 'Resident memory', residentBytes);
  gauge('nodejs_heap_used_bytes', 'Memory of live JavaScript objects', () => getHeapStatistics().used_heap_size);
  gauge('nodejs_external_memory_bytes', 'Memory of buffers outside the heap', () => getHeapStatistics().external_memory);
  gauge('nodejs_eventloop_utilization', 'Share of the time since the last scrape that the main event loop was busy', () => {
    const before = loop;
    loop = performance.eventLoopUtilization();
    return performance.eventLoopUtilization(loop, before).utilization;
  });
  metrics.counter('process_cpu_seconds_total', 'CPU time, user and system', [], (family) => {
    const { user, system } = process.cpuUsage();
    family.cell().value = (user + system) / 1e6;
  });
}

/** Node reads it from a file: without a free descriptor it throws, and the other metrics would go with it. */
function residentBytes(): number | undefined {
  try {
    return process.memoryUsage.rss();
  } catch {
    return undefined;
  }
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
