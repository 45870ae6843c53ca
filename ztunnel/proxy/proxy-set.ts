// The listeners of one pod, inside its network namespace: all bound before any is served, closed together.
import { MeshError } from '#shared/errors.ts';
import { Drain } from '#shared/lifecycle/drain.ts';
import { PORT } from '#shared/ports.ts';
import type { Conn, ListeningSocket, ListenOptions, NetnsFd } from '#shared/reactor/api.ts';
import type { ZtunnelConfig } from '../config.ts';
import { Socks } from '../socks/socks.ts';
import type { PodProxy } from '../inpod/pod-manager.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { Entrance } from '#shared/lifecycle/connection-limit.ts';
import { Inbound } from './inbound.ts';
import { Outbound } from './outbound.ts';
import { Passthrough } from './passthrough.ts';
import type { Pod, ProxyContext } from './pod.ts';
import { podSocket, tunnelSocket } from './pod.ts';
import { Stays, type Stay } from './stay.ts';

/** Istio's backlog of in-pod listeners. */
const BACKLOG = 128;

/** Ports that a pod's connections arrive on. */
export function podPorts({ socks5 }: Pick<ZtunnelConfig, 'socks5'>): readonly number[] {
  return [PORT.outbound, PORT.inboundPlaintext, PORT.hbone, ...(socks5 ? [PORT.socks5] : [])];
}

/** The captured pod to serve. */
export interface PodPlace {
  readonly uid: string;
  readonly who: PodIdentity;
  readonly netns: NetnsFd;
  /** By port: those that it is served on, bound by whoever holds them; taken over. */
  readonly sockets: ReadonlyMap<number, readonly ListeningSocket[]>;
}

/** Starts serving a pod; rejects when a port is taken or the namespace is gone. */
export async function startPodProxy(context: ProxyContext, { uid, who, netns, sockets }: PodPlace): Promise<PodProxy> {
  const pool = context.newPool();
  const pod: Pod = { uid, who, netns, pool, drain: new Drain(context.clock), transparent: false };
  using cleanup = new DisposableStack();
  cleanup.defer(() => pool.close());
  const listeners = cleanup.use(new DisposableStack());
  /** True when all are transparent. */
  const listen = async (port: number, entrance: Entrance, serve: Serve): Promise<boolean> => {
    // Tunnels of a peer hold the drain, not the connection that they are in.
    const stays = new Stays(context.limit, entrance === 'hbone' ? undefined : pod.drain);
    const limited = (conn: Conn): void => serveWithin({ context, entrance, stays, serve }, conn);
    const options = podListenOptions(context.config, netns, port);
    const given = sockets.get(port) ?? [];
    let transparent = given.length > 0;
    for (const socket of given) {
      const listener = await context.reactor.listen({ ...options, socket }, limited);
      listeners.defer(() => listener.close());
      transparent &&= listener.transparent;
    }
    return transparent;
  };
  const outbound = new Outbound(context, pod);
  const inbound = new Inbound(context, pod);
  const passthrough = new Passthrough(context, pod);
  await listen(PORT.outbound, 'outbound', (conn, stay) => outbound.serve(conn, stay));
  const plaintext = await listen(PORT.inboundPlaintext, 'plaintext', (conn, stay) => passthrough.serve(conn, stay));
  const hbone = await listen(PORT.hbone, 'hbone', (conn, stay) => inbound.serve(conn, stay));
  const socks = new Socks(context, pod, outbound);
  await listen(PORT.socks5, 'socks5', (conn, stay) => socks.serve(conn, stay));
  pod.transparent = plaintext && hbone;
  listeners.use(context.pods.add(pod));
  const held = cleanup.move();
  return {
    async stop(deadline) {
      listeners.dispose();
      await pod.drain.start(deadline);
      held.dispose();
      // Tunnels of the pod have its private key.
      context.specimens.forget();
    },
  };
}

/** Owns the stay; never rejects. */
type Serve = (conn: Conn, stay: Stay) => Promise<void>;

interface Door {
  readonly context: ProxyContext;
  readonly entrance: Entrance;
  readonly stays: Stays;
  readonly serve: Serve;
}

/** Serves a connection if there is room for one more. What goes wrong with one connection ends that one alone. */
function serveWithin({ context: { telemetry }, entrance, stays, serve }: Door, conn: Conn): void {
  const refuse = (thrown: unknown): void => {
    const direction = entrance === 'outbound' || entrance === 'socks5' ? 'outbound' : 'inbound';
    telemetry.refusedEarly(conn.remote, conn.local, direction, MeshError.from(thrown));
    conn.reset();
  };
  let stay: Stay;
  try {
    stay = stays.take(entrance);
  } catch (thrown) {
    return refuse(thrown);
  }
  serve(conn, stay).catch((thrown: unknown) => {
    stay[Symbol.dispose]();
    refuse(thrown);
  });
}

/**
 * The kernel watches silent peers of all ports, as accepted sockets inherit it from the listening one. On 15008 HTTP/2 does so too, but only
 * from the end of the handshake.
 */
export function podListenOptions(config: ZtunnelConfig, netns: NetnsFd, port: number): ListenOptions {
  return {
    ...(port === PORT.hbone || port === PORT.outbound ? tunnelSocket : podSocket)({ netns }, { config }),
    address: { ip: addressFor(port, config), port },
    transparent: port === PORT.socks5 ? 'no' : config.originalSource,
    reusePort: config.inpodPortReuse,
    backlog: BACKLOG,
  };
}

/** Nothing redirects to SOCKS5, and nobody else is to use a pod's identity. */
function addressFor(port: number, { ipv6 }: ZtunnelConfig): string {
  if (port === PORT.socks5) return '127.0.0.1';
  return ipv6 ? '::' : '0.0.0.0';
}
