// State-of-the-world ADS: every request holds all names and every response all resources of them (facts: control plane 2.4).
import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import { DiscoveryResponseSchema } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { EncodedResource, ResourceSet } from '../snapshot/resource-set.ts';
import { RpcError } from './rpc-error.ts';
import { MAX_NAMES, Subscription } from './subscription.ts';
import type { AdsRequest, AdsResponse, RequestMeaning } from './subscription.ts';
import { isNamedOnly } from './types.ts';

export class SotwSubscription extends Subscription {
  #started = false;
  #names: ReadonlySet<string> = new Set();
  #sentVersion: string | undefined;

  protected change({ names }: AdsRequest, answered: RequestMeaning | undefined): boolean {
    // In SotW the names of an outdated request are outdated too: the answer to the latest response brings them again.
    if (answered === 'stale') return false;
    if (names.length > MAX_NAMES)
      throw new RpcError(status.RESOURCE_EXHAUSTED, `more than ${MAX_NAMES} names of ${this.typeUrl}`);
    const added = names.some((name) => !this.#names.has(name));
    const first = !this.#started;
    this.#started = true;
    this.#names = new Set(names);
    if (names.length === 0 && isNamedOnly(this.typeUrl)) return false;
    return first || added;
  }

  protected encode(set: ResourceSet, nonce: string, owed: boolean): AdsResponse | undefined {
    const all = this.#names.size === 0 || this.#names.has('*');
    if (all && isNamedOnly(this.typeUrl) && this.#names.size === 0) return undefined;
    const resources = all ? [...set.resources.values()] : [...new Set([...this.#names].flatMap((name) => set.find(name)))];
    const version = all ? set.version : versionOf(resources);
    if (version === this.#sentVersion && !owed) return undefined;
    this.#sentVersion = version;
    const head = toBinary(
      DiscoveryResponseSchema,
      create(DiscoveryResponseSchema, { typeUrl: this.typeUrl, nonce, versionInfo: version }),
    );
    const bytes = Buffer.concat([head, ...resources.map(({ sotwFrame }) => sotwFrame)]);
    return { bytes, names: resources.map(({ name }) => name), removed: 0 };
  }

  forget(): void {
    this.#sentVersion = undefined;
  }
}

function versionOf(resources: readonly EncodedResource[]): string {
  const hash = createHash('sha256');
  for (const { name, version } of resources) hash.update(`${name}\n${version}\n`);
  return hash.digest('hex').slice(0, 16);
}
