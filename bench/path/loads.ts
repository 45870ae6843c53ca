// What is sent through a path, and what comes out as numbers: bulk streams, requests, connections.
import { join } from 'node:path';
import { cpuBetween, readCpu } from '../measure/cpu.ts';
import type { Sample } from '../measured.ts';
import { parseIperf, parseWrk, requireAnswers } from '../measure/tools.ts';
import { ROOT } from './lab.ts';
import type { PathLab } from './lab.ts';
import { HTTP_PORT, IPERF_PORT } from './topology.ts';
import type { Namespace, PodName } from './topology.ts';

/** Traffic, of which each round has some. */
export type Traffic = 'stream-1' | 'stream-8' | 'requests-16' | 'requests-64' | 'connections' | 'new-connection';
/** `idle`, `stalled` and `held` are measured once. */
export type Load = Traffic | 'stalled' | 'idle' | 'handshake' | 'held';

/** From whom to whom, in which lab, and whose CPU is counted. */
export interface Path {
  readonly lab: PathLab;
  readonly from: Namespace;
  readonly to: Namespace;
  readonly target: PodName;
  /** Instead of the target's HTTP port: a proxy's in the client's pod. */
  readonly via?: { readonly ip: string; readonly port: number; readonly iperfPort?: number };
  /** Processes in between; empty for the direct path. */
  readonly proxies: readonly number[];
}

/**
 * Of traffic any of: gbps; rps; p50 and p99 (us); errors; cpuPerGb (s); cpuPerRequest (us, of a connection where each request opens one).
 * Always: cores (that the proxies used), user (share of their CPU in user mode), machine (share of all cores in use), others (cores that everything but the proxies used). Of a run also threads (that carry
 * connections on this way, of all proxies).
 */
export type { Sample };

/** Connections opened one after the other, with a pause between them so that none meets a busy proxy. */
export const PROBES_PER_SECOND = 200;

export async function measureTraffic(path: Path, load: Traffic, seconds: number): Promise<Sample> {
  const before = await readCpu(path.proxies);
  const output = await path.lab.exec(path.from, 'client', commandOf(path, load, seconds));
  const use = cpuBetween(before, await readCpu(path.proxies));
  const common = { cores: use.cores, user: use.user, machine: use.machine, others: use.others };
  switch (load) {
    case 'stream-1':
    case 'stream-8': {
      const { bytes, gbps } = parseIperf(output);
      return { ...common, gbps, cpuPerGb: use.cpu / (bytes / 1e9) };
    }
    case 'requests-16':
    case 'requests-64':
    case 'connections': {
      const { requests, perSecond, p50, p99, errors } = parseWrk(output);
      requireAnswers({ requests, errors }, `${load} to ${path.to}/${path.target}`, output);
      return { ...common, rps: perSecond, cpuPerRequest: (use.cpu * 1e6) / requests, p50, p99, errors };
    }
    case 'new-connection': {
      const { p50, p99 } = JSON.parse(output) as { p50: number; p99: number };
      return { ...common, p50, p99 };
    }
  }
}

function commandOf(path: Path, load: Traffic, seconds: number): string[] {
  const { ip, port, iperfPort = IPERF_PORT } = path.via ?? { ip: path.lab.pod(path.to, path.target).ip, port: HTTP_PORT };
  const url = `http://${ip}:${port}/`;
  const wrk = (connections: number): string[] => ['wrk', '--latency', '-t', '1', '-c', String(connections), '-d', `${seconds}s`];
  switch (load) {
    case 'stream-1':
    case 'stream-8':
      return ['iperf3', '-J', '-c', ip, '-p', String(iperfPort), '-t', String(seconds), '-P', load === 'stream-1' ? '1' : '8'];
    case 'requests-16':
      return [...wrk(16), url];
    case 'requests-64':
      return [...wrk(64), url];
    case 'connections':
      return [...wrk(16), '-H', 'Connection: close', url];
    case 'new-connection':
      return [process.execPath, join(ROOT, 'bench', 'path', 'probe.ts'), ip, String(port), String(seconds * PROBES_PER_SECOND)];
  }
}
