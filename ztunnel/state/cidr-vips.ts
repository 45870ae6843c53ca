// Services found by address block. Blocks of one length are in one table under their own bits, so that an address costs a look-up for each
// length that is in use, however many blocks there are.
import { ipToBytes } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { CidrVip, Service } from './model.ts';

/** Blocks of one network and family, the longest first. */
interface Tables {
  readonly lengths: number[];
  /** By length, then by the bits of the block. Services in the order in which they came. */
  readonly byLength: Map<number, Map<string, Service[]>>;
}

export class CidrVips {
  readonly #networks = new Map<string, Tables>();

  add(service: Service): void {
    for (const block of service.cidrVips) {
      const { tables, bits } = this.#place(block);
      let table = tables.byLength.get(block.length);
      if (!table) {
        tables.byLength.set(block.length, (table = new Map()));
        tables.lengths.push(block.length);
        tables.lengths.sort((a, b) => b - a);
      }
      const services = table.get(bits);
      if (services) services.push(service);
      else table.set(bits, [service]);
    }
  }

  delete(service: Service): void {
    for (const block of service.cidrVips) {
      const { tables, bits } = this.#place(block);
      const table = tables.byLength.get(block.length);
      const left = table?.get(bits)?.filter((each) => each !== service) ?? [];
      if (left.length > 0) table?.set(bits, left);
      else table?.delete(bits);
      if (table?.size !== 0) continue;
      tables.byLength.delete(block.length);
      tables.lengths.splice(tables.lengths.indexOf(block.length), 1);
    }
  }

  /**
   * The service that a client of the namespace means by the address: of its own namespace, then by the longest block, then the canonical
   * one, then the one that came first.
   */
  find(network: string, ip: string, clientNamespace: string): Service | undefined {
    if (this.#networks.size === 0) return undefined;
    const bytes = ipToBytes(ip);
    const tables = bytes && this.#networks.get(nameOf(network, bytes));
    if (!tables) return undefined;
    let elsewhere: Service | undefined;
    for (const length of tables.lengths) {
      const services = tables.byLength.get(length)?.get(bitsOf(bytes, length));
      if (!services) continue;
      const own = canonicalOf(services, (service) => service.namespace === clientNamespace);
      if (own) return own;
      elsewhere ??= canonicalOf(services, (service) => service.visibility === 'Public');
    }
    return elsewhere;
  }

  #place({ network, ip, length }: CidrVip): { tables: Tables; bits: string } {
    const bytes = ipToBytes(ip);
    // Whoever made the service has checked it.
    if (!bytes) throw new MeshError('internal', `"${ip}" of an address block is not an IP address`);
    const name = nameOf(network, bytes);
    let tables = this.#networks.get(name);
    if (!tables) this.#networks.set(name, (tables = { lengths: [], byLength: new Map() }));
    return { tables, bits: bitsOf(bytes, length) };
  }
}

/** A network and the family of an address. */
function nameOf(network: string, bytes: Uint8Array): string {
  return `${bytes.length}/${network}`;
}

/** The first `length` bits, the rest being zero: the same for all addresses of one block. */
function bitsOf(bytes: Uint8Array, length: number): string {
  let bits = '';
  const whole = length >> 3;
  for (let i = 0; i < whole; i++) bits += String.fromCharCode(bytes[i] ?? 0);
  const rest = length & 7;
  return rest === 0 ? bits : bits + String.fromCharCode((bytes[whole] ?? 0) & (0xff << (8 - rest)) & 0xff);
}

/** The first that is canonical, else the first. */
function canonicalOf(services: readonly Service[], isMeant: (service: Service) => boolean): Service | undefined {
  let first: Service | undefined;
  for (const service of services) {
    if (!isMeant(service)) continue;
    if (service.canonical) return service;
    first ??= service;
  }
  return first;
}
