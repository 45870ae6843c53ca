// Readiness probes as a kubelet sends them: from the node, with the source address that redirect rules let pass.
import { request } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { request as tlsRequest } from 'node:https';
import { connect as tlsConnect } from 'node:tls';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { dialIn } from '../net/socket.ts';
import { PROBE_SOURCE } from '../plan.ts';
import { runProgram } from '../run.ts';
import type { Container } from './environment.ts';

export type Probe = NonNullable<Container['readinessProbe']>;

export interface ProbeTarget {
  /** Where the kubelet stands. */
  nodeNetns: string;
  podIP: string;
  container: Container;
  /** Command line that runs something inside the container. */
  enter(argv: readonly string[]): string[];
}

/** Undefined when the probe succeeded, else why not. */
export async function runProbe(probe: Probe, target: ProbeTarget): Promise<string | undefined> {
  const timeout = (probe.timeoutSeconds ?? 1) * 1000;
  try {
    if (probe.exec) {
      const result = await runProgram(target.enter(probe.exec.command ?? []), { timeout });
      return result.code === 0 ? undefined : `command ended with code ${result.code}`;
    }
    if (probe.httpGet) return await httpProbe(probe.httpGet, target, timeout);
    if (probe.tcpSocket) {
      const socket = await dial(target, probe.tcpSocket.port, timeout);
      socket.destroy();
      return undefined;
    }
    return 'a probe has httpGet, tcpSocket or exec';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The number of a port that may be named; undefined when the container has no such port. */
export function containerPort(container: Container, port: number | string): number | undefined {
  const number = Number(port);
  if (Number.isInteger(number)) return number;
  return container.ports?.find(({ name }) => name === port)?.containerPort;
}

async function httpProbe(
  action: NonNullable<Probe['httpGet']>,
  target: ProbeTarget,
  timeout: number,
): Promise<string | undefined> {
  const socket = await dial(target, action.port, timeout);
  const secure = action.scheme === 'HTTPS';
  const headers = Object.fromEntries((action.httpHeaders ?? []).map(({ name, value }) => [name, value]));
  const options = {
    path: action.path ?? '/',
    timeout,
    headers: {
      'user-agent': 'kube-probe/culvert',
      connection: 'close',
      host: `${target.podIP}:${String(action.port)}`,
      ...headers,
    },
    createConnection: () => (secure ? tlsConnect({ socket, rejectUnauthorized: false }) : socket),
  };
  const sent = secure ? tlsRequest({ ...options, agent: new TlsAgent() }) : request(options);
  sent.on('timeout', () => sent.destroy(new Error(`no answer within ${timeout} ms`)));
  sent.end();
  try {
    const [response] = (await once(sent, 'response')) as [{ statusCode: number; resume(): void }];
    response.resume();
    return response.statusCode >= 200 && response.statusCode < 400 ? undefined : `HTTP status ${response.statusCode}`;
  } finally {
    socket.destroy();
  }
}

async function dial(target: ProbeTarget, port: number | string, timeout: number): Promise<Socket> {
  const number = containerPort(target.container, port);
  if (number === undefined) throw new Error(`container ${target.container.name} has no port named ${String(port)}`);
  const socket = dialIn({ netns: target.nodeNetns, to: { ip: target.podIP, port: number }, from: PROBE_SOURCE });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(timeout) });
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}
