// Addresses, ports and names in the YAML of a state file (local-file.ts): each is checked where it is read, and a fault names its field.
import { canonicalIp, ipToBytes } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import { namespacedHostname } from '#shared/ids.ts';
import type { NamespacedHostname } from '#shared/ids.ts';
import type { Cidr } from './cidr.ts';
import type { GatewayAddress, NetworkAddress, PortMap } from './model.ts';
import { networkAddress } from './model.ts';
import type { YamlReader } from './yaml-reader.ts';

/** `destination`: NETWORK/IP or NAMESPACE/HOSTNAME. */
export function readGateway(entry: YamlReader | undefined): GatewayAddress | undefined {
  if (!entry) return undefined;
  const destination = entry.text('destination');
  const port = entry.number('hboneMtlsPort', 15008);
  entry.done();
  const slash = destination.indexOf('/');
  const ip = canonicalIp(destination.slice(slash + 1));
  if (ip !== undefined) return { kind: 'address', network: destination.slice(0, Math.max(slash, 0)), ip, port };
  return { kind: 'hostname', host: readHost(destination, entry.field('destination')), port };
}

/** Service ports to target ports; a target of 0 is a port that each endpoint names. */
export function readPorts(entry: YamlReader | undefined): PortMap {
  return new Map(
    (entry?.entries('') ?? []).map(([port, target]) => [
      readPort(port, target.field(''), 1),
      readPort(String(target.value), target.field(''), 0),
    ]),
  );
}

function readPort(text: string, field: string, min: number): number {
  const port = Number(text);
  if (/^\d{1,5}$/u.test(text) && port >= min && port <= 65_535) return port;
  throw new MeshError('invalid_config', `${field}: "${text}" is not a port`);
}

export function readIp(text: string, field: string): string {
  const ip = canonicalIp(text);
  if (ip === undefined) throw new MeshError('invalid_config', `${field}: "${text}" is not an IP address`);
  return ip;
}

/** NETWORK/IP, /IP or IP */
export function readAddress(text: string, field: string): NetworkAddress {
  const slash = text.lastIndexOf('/');
  return networkAddress(text.slice(0, Math.max(slash, 0)), readIp(text.slice(slash + 1), field));
}

/** IP/LENGTH, or an IP that is meant alone. */
export function readCidr(text: string, field: string): Cidr {
  const [ip = '', length] = text.split('/');
  const bytes = ipToBytes(ip);
  const bits = length === undefined ? (bytes?.length ?? 0) * 8 : Number(length);
  if (!bytes || !Number.isInteger(bits) || bits < 0 || bits > bytes.length * 8)
    throw new MeshError('invalid_config', `${field}: "${text}" is not an address block`);
  return { bytes, length: bits };
}

/** NAMESPACE/HOSTNAME */
export function readHost(text: string, field: string): NamespacedHostname {
  const slash = text.indexOf('/');
  if (slash < 0) throw new MeshError('invalid_config', `${field}: "${text}" is not NAMESPACE/HOSTNAME`);
  return namespacedHostname(text.slice(0, slash), text.slice(slash + 1));
}
