// From the authority of a CONNECT to the port of the pod that answers it. Pure.
import { knownAddress, type HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { Authority } from '#shared/hbone/authority.ts';
import type { Service, Workload } from '../state/model.ts';
import type { MeshView } from '../state/store.ts';
import { checkDestination } from './destination-check.ts';
import type { ZtunnelConfig } from '../config.ts';
import { isCapturePort } from './pod.ts';

export interface InboundTarget {
  /** Where policies say the connection goes, and what is dialled unless the application tunnel listens on loopback. */
  readonly to: HostPort;
  /** The service port or address that was asked for, which a PROXY header repeats. */
  readonly asked: HostPort;
  /** The host name that was asked for, if one was. */
  readonly askedHost?: string;
  /** The application wants a PROXY header first. */
  readonly proxyHeader: boolean;
}

/** Throws `destination_mismatch`, `unknown_destination` or `self_call`. */
export function inboundTarget(
  view: MeshView,
  workload: Workload,
  local: HostPort,
  authority: Authority,
  config: Pick<ZtunnelConfig, 'socks5'>,
): InboundTarget {
  const { port, asked } =
    authority.kind === 'host' ? byName(view, workload, local, authority) : byAddress(view, workload, local, authority.address);
  if (isCapturePort(port, config)) throw new MeshError('self_call', 'attempted recursive call to ourselves');
  const tunnel = workload.applicationTunnel;
  const to = knownAddress(local.ip, tunnel?.port ?? port);
  return {
    to,
    // One object for both, nearly always: as long as the connection lasts, each has them.
    asked: asked.ip === to.ip && asked.port === to.port ? to : asked,
    ...(authority.kind === 'host' ? { askedHost: authority.host } : {}),
    proxyHeader: tunnel?.protocol === 'PROXY',
  };
}

interface Resolved {
  readonly port: number;
  readonly asked: HostPort;
}

function byAddress(view: MeshView, workload: Workload, local: HostPort, address: HostPort): Resolved {
  checkDestination(view, { workload, localIp: local.ip, ip: address.ip });
  return { port: address.port, asked: address };
}

/** By host name, the port is one of the service's: the endpoint's own mapping of it counts first. */
function byName(view: MeshView, workload: Workload, local: HostPort, { host, port }: { host: string; port: number }): Resolved {
  const service = view.services.byHostname(host, workload.namespace);
  if (!service) throw new MeshError('unknown_destination', `no service or workload for hostname ${host}`);
  const target = view.services.endpoints(service.key).get(workload.uid)?.get(port) || service.ports.get(port);
  if (!target) throw new MeshError('unknown_destination', `requested service ${host}:${port} found, but cannot resolve port`);
  const vip = vipOf(service, workload.network);
  // The pod's own address in a PROXY header would say that the pod itself was meant.
  if (vip === undefined && workload.applicationTunnel?.protocol === 'PROXY')
    throw new MeshError('unknown_destination', `requested service ${host} found, but has no IP addresses`);
  return { port: target, asked: { ip: vip ?? local.ip, port } };
}

/** The service's address in the own network first, IPv4 first. */
function vipOf(service: Service, network: string): string | undefined {
  const vips = service.vips.map((vip) => ({ own: vip.startsWith(`${network}/`), ip: vip.slice(vip.lastIndexOf('/') + 1) }));
  vips.sort((a, b) => Number(b.own) - Number(a.own) || Number(a.ip.includes(':')) - Number(b.ip.includes(':')));
  return vips[0]?.ip;
}

/** The service that the client most likely meant: the host name it forwarded, else the first whose port leads here. */
export function guessService(view: MeshView, workload: Workload, port: number, forwardedHost?: string): Service | undefined {
  let byPort: Service | undefined;
  for (const [key, ports] of workload.services) {
    const service = view.services.get(key);
    if (!service) continue;
    if (service.hostname === forwardedHost) return service;
    const targets = [...ports.values(), ...service.ports.values()];
    if (targets.includes(port)) byPort ??= service;
  }
  return byPort;
}
