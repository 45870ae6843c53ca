// A control plane on ports of its own over folders of its own, and a plain gRPC client that speaks ADS to it message by message.
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { JsonObject, MessageInitShape } from '@bufbuild/protobuf';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import type { ChannelCredentials, ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import type { Test } from 'tap';
import { buildApp } from '../../controlplane/app.ts';
import { loadConfig } from '../../controlplane/config.ts';
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from '../../shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { DeltaDiscoveryResponse, DiscoveryResponse } from '../../shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { Logging } from '../../shared/telemetry/log.ts';

export interface RunningApp {
  ports: { plaintext: number; tls: number; monitoring: number };
  stateDir: string;
  lines: string[];
  /** Writes a file of the user's folder by rename; undefined removes it. */
  put(name: string, yaml: string | undefined): Promise<void>;
  /** JSON of a page over the admin socket. */
  admin<T>(path: string, body?: unknown): Promise<T>;
}

export async function runningApp(
  t: Test,
  files: Record<string, string> = {},
  env: Record<string, string> = {},
): Promise<RunningApp> {
  const root = await mkdtemp(path.join(tmpdir(), 'culvert-cp-'));
  const dir = (name: string): string => path.join(root, name);
  for (const name of ['user', 'objects', 'status', 'state']) await mkdir(dir(name));
  const put = async (name: string, yaml: string | undefined): Promise<void> => {
    if (yaml === undefined) return rm(path.join(dir('user'), name));
    await writeFile(dir('.next'), yaml);
    await rename(dir('.next'), path.join(dir('user'), name));
  };
  for (const [name, yaml] of Object.entries(files)) await put(name, yaml);
  const variables: Record<string, string> = {
    OBJECT_DIRS: `${dir('user')}:${dir('objects')}`,
    OBJECT_WRITE_DIR: dir('objects'),
    STATUS_DIR: dir('status'),
    STATE_DIR: dir('state'),
    LISTEN_ADDRESS: '127.0.0.1',
    XDS_PORT: '0',
    XDS_TLS_PORT: '0',
    MONITORING_PORT: '0',
    PILOT_DEBOUNCE_AFTER: '20ms',
    ...env,
  };
  const lines: string[] = [];
  const logging = new Logging({ sink: { write: (line) => lines.push(line) } });
  const app = await buildApp(
    loadConfig((name) => variables[name]),
    logging.scope('test'),
  );
  t.teardown(async () => {
    await app.stop();
    await rm(root, { recursive: true, force: true });
  });
  const socketPath = path.join(dir('state'), 'admin.sock');
  const admin = <T>(page: string, body?: unknown): Promise<T> =>
    new Promise((resolve, reject) => {
      const call = request({ socketPath, path: page, method: body === undefined ? 'GET' : 'POST' }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('end', () => (response.statusCode === 200 ? resolve(JSON.parse(text) as T) : reject(new Error(text))));
      });
      call.on('error', reject).end(body === undefined ? undefined : JSON.stringify(body));
    });
  return { ports: app.ports, stateDir: dir('state'), lines, put, admin };
}

export interface AdsClientOptions {
  port: number;
  credentials?: ChannelCredentials;
  token?: string;
}

/** One stream: requests out, responses in, in order. */
export class AdsClient<Q, R> {
  #client: Client;
  #stream: ClientDuplexStream<Buffer, Buffer>;
  #encode: (request: Q) => Uint8Array;
  #arrived: R[] = [];
  #waiting: (() => void)[] = [];
  readonly ended: Promise<ServiceError>;

  constructor(
    t: Test,
    options: AdsClientOptions,
    method: string,
    encode: (request: Q) => Uint8Array,
    decode: (bytes: Buffer) => R,
  ) {
    this.#encode = encode;
    this.#client = new Client(`localhost:${options.port}`, options.credentials ?? credentials.createInsecure());
    const metadata = new Metadata();
    if (options.token !== undefined) metadata.set('authorization', `Bearer ${options.token}`);
    const raw = (bytes: Buffer): Buffer => bytes;
    this.#stream = this.#client.makeBidiStreamRequest(
      `/envoy.service.discovery.v3.AggregatedDiscoveryService/${method}`,
      raw,
      raw,
      metadata,
    );
    this.#stream.on('data', (bytes: Buffer) => {
      this.#arrived.push(decode(bytes));
      for (const wake of this.#waiting.splice(0)) wake();
    });
    this.ended = new Promise((resolve) => this.#stream.on('error', (error: ServiceError) => resolve(error)));
    t.teardown(() => this.close());
  }

  send(request: Q): void {
    this.#stream.write(Buffer.from(this.#encode(request)));
  }

  /** The next response; rejects after `ms`. */
  async next(ms = 3000): Promise<R> {
    const deadline = performance.now() + ms;
    while (this.#arrived.length === 0) {
      if (performance.now() > deadline) throw new Error('no response came');
      await this.#wait(deadline - performance.now());
    }
    return this.#arrived.shift() as R;
  }

  /** True when nothing comes for `ms`. */
  async quiet(ms = 200): Promise<boolean> {
    await this.#wait(ms);
    return this.#arrived.length === 0;
  }

  close(): void {
    this.#stream.cancel();
    this.#client.close();
  }

  async #wait(ms: number): Promise<void> {
    if (this.#arrived.length > 0) return;
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      new Promise<void>((resolve) => this.#waiting.push(resolve)),
      new Promise<void>((resolve) => (timer = setTimeout(resolve, Math.max(ms, 1)))),
    ]);
    clearTimeout(timer);
  }
}

type DeltaRequest = MessageInitShape<typeof DeltaDiscoveryRequestSchema>;
type SotwRequest = MessageInitShape<typeof DiscoveryRequestSchema>;

export function deltaClient(t: Test, options: AdsClientOptions): AdsClient<DeltaRequest, DeltaDiscoveryResponse> {
  const schema = DeltaDiscoveryRequestSchema;
  const encode = (request: DeltaRequest): Uint8Array => toBinary(schema, create(schema, request));
  return new AdsClient(t, options, 'DeltaAggregatedResources', encode, (bytes) =>
    fromBinary(DeltaDiscoveryResponseSchema, bytes),
  );
}

export function sotwClient(t: Test, options: AdsClientOptions): AdsClient<SotwRequest, DiscoveryResponse> {
  const schema = DiscoveryRequestSchema;
  const encode = (request: SotwRequest): Uint8Array => toBinary(schema, create(schema, request));
  return new AdsClient(t, options, 'StreamAggregatedResources', encode, (bytes) => fromBinary(DiscoveryResponseSchema, bytes));
}

export function ztunnelNode(metadata: JsonObject = {}): { id: string; metadata: JsonObject } {
  return {
    id: 'ztunnel~10.0.0.2~ztunnel-1.culvert-system~culvert-system.svc.cluster.local',
    metadata: { NAME: 'ztunnel-1', NAMESPACE: 'culvert-system', NODE_NAME: 'node-1', SERVICE_ACCOUNT: 'ztunnel', ...metadata },
  };
}

/** A running Pod with an address. */
export function podYaml(name: string, ip: string, labels: Record<string, string> = { app: 'web' }): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels },
    spec: { nodeName: 'node-1', containers: [{ name: 'app', ports: [{ name: 'http', containerPort: 8080 }] }] },
    status: { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions: [{ type: 'Ready', status: 'True' }] },
  });
}

export const SERVICE_YAML = `apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.9, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
`;
