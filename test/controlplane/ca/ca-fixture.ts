// A whole CA on a real gRPC server in a folder of its own, and clients for it.
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Server } from '@grpc/grpc-js';
import { systemClock } from '#shared/clock.ts';
import type { Clock } from '#shared/clock.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { buildCa } from '../../../controlplane/ca/ca.ts';
import type { Ca } from '../../../controlplane/ca/ca.ts';
import type { CaConfig } from '../../../controlplane/ca/config.ts';
import type { PodInfo, PodLookup } from '../../../controlplane/ca/impersonation.ts';
import { TokenIssuer } from '../../../controlplane/ca/token-issuer.ts';
import type { TokenSubject } from '../../../controlplane/ca/token-issuer.ts';

export const ZTUNNEL: TokenSubject = {
  namespace: 'culvert-system',
  serviceAccount: 'ztunnel',
  podName: 'ztunnel-node-1',
  podUid: 'u-zt',
  nodeName: 'node-1',
};

export const PODS: PodInfo[] = [
  { namespace: 'shop', name: 'web-0', uid: 'u1', serviceAccount: 'web', nodeName: 'node-1', phase: 'Running' },
  { namespace: 'shop', name: 'cart-0', uid: 'u2', serviceAccount: 'cart', nodeName: 'node-2', phase: 'Running' },
  { namespace: 'shop', name: 'job-0', uid: 'u3', serviceAccount: 'job', nodeName: 'node-1', phase: 'Failed' },
];

export function lookup(pods: readonly PodInfo[]): PodLookup {
  return {
    pod: (namespace, name) => pods.find((pod) => pod.namespace === namespace && pod.name === name),
    podsOnNode: (node) => pods.filter(({ nodeName }) => nodeName === node),
  };
}

export async function folder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'culvert-ca-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

export function configOf(stateDir: string, over: Partial<CaConfig> = {}): CaConfig {
  return {
    stateDir,
    cacertsDir: undefined,
    trustDomain: 'cluster.local',
    serverNames: ['localhost', '127.0.0.1'],
    trustedNodeAccounts: ['culvert-system/ztunnel'],
    defaultTtl: 24 * 3_600_000,
    maxTtl: 90 * 24 * 3_600_000,
    ...over,
  };
}

export interface RunningCa extends AsyncDisposable {
  ca: Ca;
  address: string;
  stateDir: string;
  metrics: Metrics;
  lines: string[];
  token(subject: Partial<TokenSubject>): Promise<string>;
}

export async function startCa(options: { over?: Partial<CaConfig>; pods?: PodInfo[]; clock?: Clock } = {}): Promise<RunningCa> {
  const dir = await folder();
  const metrics = new Metrics({ openMetrics: false });
  const lines: string[] = [];
  const log = new Logging({ sink: { write: (line) => lines.push(line) } }).scope('ca');
  const clock = options.clock ?? systemClock;
  const ca = await buildCa(configOf(dir.path, options.over), { pods: lookup(options.pods ?? PODS), clock, log, metrics });
  const server = new Server();
  ca.addTo(server);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ca.credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const tokens = await TokenIssuer.load(dir.path, clock);
  return {
    ca,
    address: `https://127.0.0.1:${port}`,
    stateDir: dir.path,
    metrics,
    lines,
    token: async (subject) => (await tokens.issue({ ...ZTUNNEL, ...subject })).token,
    async [Symbol.asyncDispose]() {
      server.forceShutdown();
      ca[Symbol.dispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** What the openssl command says; rejects when it fails. */
export async function openssl(...args: string[]): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)('openssl', args, { timeout: 10_000 });
  return stdout + stderr;
}
