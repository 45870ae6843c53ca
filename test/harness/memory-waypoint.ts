// The HTTP part of a waypoint in memory: a client's connection, one cluster with one route to it, and the connections to its backend.
import { FakeClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { BufferPool } from '#shared/http2/output.ts';
import { Specimens } from '#shared/lifecycle/specimens.ts';
import type { StreamHandler } from '#shared/reactor/api.ts';
import { ConnectionPool } from '../../waypoint/cluster/pool.ts';
import type { Cluster, Endpoint } from '../../waypoint/cluster/cluster.ts';
import { Expiry } from '../../waypoint/expiry.ts';
import { type ExchangeContext, serveExchange } from '../../waypoint/http/exchange.ts';
import { H1Server } from '../../waypoint/http/h1-server.ts';
import { H2Server } from '../../waypoint/http/h2.ts';
import { Router } from '../../waypoint/http/router.ts';
import { NO_EDITS, type RouteTable } from '../../waypoint/route/table.ts';
import { refusedRecord, type TrafficRecord } from '../../waypoint/telemetry/record.ts';
import { type MemoryStream, streamPair } from './stream-pair.ts';

interface MemoryWaypoint {
  readonly clock: FakeClock;
  /** Another client; HTTP/2 when the waypoint was told so. */
  connect(): MemoryStream;
  /** The backend's ends of the connections that were made to it. */
  readonly backends: MemoryStream[];
  /** Of requests that are over. */
  readonly records: TrafficRecord[];
  /** Connections to the backend that are open. */
  readonly connections: () => number;
}

interface Options {
  /** Of clients and of the backend; default HTTP/1.1. */
  readonly clientHttp2?: boolean;
  readonly backendHttp2?: boolean;
  /** Octets in flight on a connection before its writer is asked to pause. */
  readonly highWater?: number;
  /** Turns of the loop that a connection to the backend takes. */
  readonly dialTurns?: number;
  /** Whether it fails then. */
  readonly refuses?: () => boolean;
  /** What every request is answered with, in place of the backend's answer. */
  readonly direct?: { readonly status: number; readonly body: string };
  /** Milliseconds of the route; default none. */
  readonly timeout?: number;
}

const HTTP1_BUFFER = 8192;

const CLUSTER: Cluster = {
  name: 'backend',
  discovery: 'static',
  edsName: '',
  endpoints: [],
  lbPolicy: 'round-robin',
  connectTimeout: 1000,
  http2: false,
  tunnel: undefined,
  service: undefined,
};

const tableOf = ({ direct, timeout = 0 }: Options): RouteTable => ({
  name: 'r',
  hosts: [
    {
      name: 'all',
      domains: ['*'],
      routes: [
        {
          name: 'all',
          matches: () => true,
          edits: NO_EDITS,
          action: direct
            ? { kind: 'direct', ...direct }
            : {
                kind: 'forward',
                shares: [{ cluster: 'backend', weight: 1, edits: NO_EDITS }],
                totalWeight: 1,
                rewritePath: undefined,
                rewriteHost: undefined,
                timeout,
                clusterNotFound: 500,
              },
        },
      ],
    },
  ],
});

const CONTEXT: ExchangeContext = {
  chain: {
    kind: 'http',
    name: 'c',
    match: { addresses: [], port: undefined, protocols: [] },
    rbac: [],
    accessLog: false,
    identity: undefined,
    routes: 'r',
    normalizePath: true,
    websocket: true,
  },
  connection: { peer: '', local: '', remote: { ip: '10.0.0.1', port: 1 }, destination: { ip: '10.0.0.2', port: 80 } },
  client: {},
};

export function memoryWaypoint(options: Options = {}): MemoryWaypoint {
  const { clientHttp2 = false, backendHttp2 = false, highWater = 16_384, dialTurns = 0, refuses } = options;
  const clock = new FakeClock();
  const table = tableOf(options);
  const defer = (task: () => void): void => void setImmediate(task);
  const deps = { clock, defer, expiry: new Expiry(clock), buffers: new BufferPool(HTTP1_BUFFER, 4) };
  const pool = new ConnectionPool(deps);
  const backends: MemoryStream[] = [];
  const records: TrafficRecord[] = [];
  const endpoint: Endpoint = {
    address: { kind: 'tcp', to: { ip: '10.0.0.3', port: 8080 } },
    label: '10.0.0.3:8080',
    weight: 1,
    identity: undefined,
    workload: undefined,
    active: 0,
  };
  const dial = async (): Promise<MemoryStream> => {
    await turns(dialTurns);
    if (refuses?.()) throw new MeshError('connect_failed', 'refused');
    const [own, backend] = streamPair({ highWater });
    backends.push(backend);
    return own;
  };
  const router = new Router({
    clock,
    random: () => 0,
    specimens: new Specimens(),
    cluster: () => ({ config: { ...CLUSTER, http2: backendHttp2 }, pick: () => endpoint, connectionKey: () => 'backend' }),
    connect: () => pool.acquire('backend', backendHttp2, dial),
  });
  const exchange = {
    clock,
    router,
    routes: () => table,
    identity: '',
    requestId: () => 'id',
    record: (record: TrafficRecord) => void records.push(record),
  };
  return {
    clock,
    backends,
    records,
    connections: () => pool.size,
    connect: () => {
      const [client, own] = streamPair({ highWater });
      const onRequest: ConstructorParameters<typeof H1Server>[2] = (message) => serveExchange(message, CONTEXT, exchange);
      const onRefused = (status: number): void =>
        void records.push(refusedRecord(CONTEXT.connection, CONTEXT.client, status, clock.now()));
      if (clientHttp2) void new H2Server(own, deps, onRequest, () => undefined);
      else void new H1Server(own, deps, onRequest, () => undefined, onRefused);
      return client;
    },
  };
}

/** Waypoint, client and backend need a few turns to hand over to each other. */
export async function turns(count = 30): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Keeps the text that comes; `onDrain` is told when more may be written. */
export class TextReader implements StreamHandler {
  text = '';
  ended = false;
  closed = false;
  readonly #drain: () => void;

  constructor(drain: () => void = () => undefined) {
    this.#drain = drain;
  }

  onData(chunk: Uint8Array): void {
    this.text += Buffer.from(chunk).toString('latin1');
  }

  onEnd(): void {
    this.ended = true;
  }

  onDrain(): void {
    this.#drain();
  }

  onClose(): void {
    this.closed = true;
  }
}
