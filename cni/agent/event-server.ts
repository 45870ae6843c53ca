// The agent's side of the plugin's socket: HTTP over pluginevent.sock. What comes in is checked before anything is done with it.
import { canonicalIp } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import { AdminServer } from '#shared/telemetry/admin-server.ts';
import type { AdminRequest, AdminResponse, AdminRoute } from '#shared/telemetry/admin-server.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import type { Sandbox, SandboxEvents } from './sandbox-events.ts';

const MAX_BODY = 64 * 1024;
const MAX_IPS = 16;
/** A GC names every container of the node. */
const MAX_CONTAINERS = 10_000;
/** Longest path the kernel takes. */
const MAX_PATH = 4096;

type Handler = (body: Record<string, unknown>) => Promise<unknown>;

export function eventRoutes(events: SandboxEvents, metrics: Metrics, log: Log): AdminRoute[] {
  const requests = metrics.counter('istio_cni_plugin_requests_total', 'Requests of the CNI plugin.', ['response_code']);
  const route = (path: string, handle: Handler): AdminRoute => ({
    path,
    methods: ['POST'],
    handle: async (request) => {
      const response = await answer(path, request, handle, log);
      requests.add(1, String(response.status ?? 200));
      return response;
    },
  });
  return [
    route('/cmdadd', async (body) => {
      const { verdict, reason } = await events.add(parseSandbox(body));
      return { enrolled: verdict === 'enrol', reason };
    }),
    route('/cmddel', async (body) => events.remove(parseSandbox(body))),
    route('/cmdcheck', async (body) => events.check(parseSandbox(body))),
    route('/cmdgc', async (body) => events.collect(parseContainers(body))),
    route('/status', async () => undefined),
  ];
}

/** Listens at the path, mode 0600. */
export async function startEventServer(path: string, routes: readonly AdminRoute[], log: Log): Promise<AdminServer> {
  const server = new AdminServer(routes, log);
  await server.listen({ path, mode: 0o600 });
  return server;
}

async function answer(path: string, request: AdminRequest, handle: Handler, log: Log): Promise<AdminResponse> {
  try {
    const result = await handle(parseBody(await request.body(MAX_BODY)));
    return { type: 'application/json', body: JSON.stringify(result ?? {}) };
  } catch (thrown) {
    const error = MeshError.from(thrown);
    log.warn('refused', { call: path, error });
    // 400 is for what the plugin got wrong; whatever else keeps a pod out is the agent's answer 500 (facts: cni §2).
    return { status: error.code === 'bad_request' ? 400 : 500, body: `${error.message}\n` };
  }
}

function parseBody(body: Buffer): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    throw new MeshError('bad_request', 'the body is not JSON');
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new MeshError('bad_request', 'the body is not a JSON object');
}

/** The sandbox in Istio's event format. Only the path may be missing: a late DEL has none. */
export function parseSandbox(body: Record<string, unknown>): Sandbox {
  const netns = text(body, 'Netns', MAX_PATH) ?? '';
  if (netns !== '' && !/^\/[^\0]*$/u.test(netns)) throw new MeshError('bad_request', 'Netns: not an absolute path');
  return {
    podName: name(body, 'PodName', 253),
    podNamespace: name(body, 'PodNamespace', 63),
    podUid: text(body, 'PodUID', 128),
    containerId: text(body, 'ContainerID', 256),
    netns,
    ips: parseIps(body['IPs']),
  };
}

function parseIps(value: unknown): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > MAX_IPS) throw new MeshError('bad_request', `IPs: not a list of up to ${MAX_IPS}`);
  return value.map((entry: { Address?: { IP?: unknown } } | null, index) => {
    const address = entry?.Address?.IP;
    const ip = typeof address === 'string' ? canonicalIp(address) : undefined;
    if (ip === undefined) throw new MeshError('bad_request', `IPs[${index}].Address.IP: not an IP address`);
    return ip;
  });
}

function parseContainers(body: Record<string, unknown>): string[] {
  const value = body['ValidContainers'];
  if (Array.isArray(value) && value.length <= MAX_CONTAINERS && value.every((entry) => typeof entry === 'string')) return value;
  throw new MeshError('bad_request', `ValidContainers: not a list of up to ${MAX_CONTAINERS} container ids`);
}

/** A name as Kubernetes allows it: these end up in messages, paths and keys. */
function name(body: Record<string, unknown>, field: string, limit: number): string {
  const value = text(body, field, limit) ?? '';
  if (/^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/u.test(value)) return value;
  throw new MeshError('bad_request', `${field}: not the name of a Kubernetes object`);
}

function text(body: Record<string, unknown>, field: string, limit: number): string | undefined {
  const value = body[field];
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value === 'string' && value.length <= limit) return value;
  throw new MeshError('bad_request', `${field}: not a text of up to ${limit} characters`);
}
