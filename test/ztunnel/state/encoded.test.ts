// State that is kept as it came: what is found is what decoded objects would give, in every store that shares the bytes, through changes,
// removals, and being put together anew.
import t from 'tap';
import { namespacedHostname, workloadUid } from '#shared/ids.ts';
import { Logging } from '#shared/telemetry/log.ts';
import type { Resource } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { ADDRESS, meshResources, workloadResource } from '../../../bench/state/mesh.ts';
import type { AddressKeys, EncodedBatch } from '../../../ztunnel/state/encoded.ts';
import { BatchWriter, bytesAt, decodeAddress, entriesOf, keysAt, textHash } from '../../../ztunnel/state/encoded.ts';
import { Batches, Places } from '../../../ztunnel/state/places.ts';
import type { StateChange } from '../../../ztunnel/state/store.ts';
import { MeshStore } from '../../../ztunnel/state/store.ts';
import { addressType } from '../../../ztunnel/state/xds-types.ts';
import { dumpState } from '../../../ztunnel/state/dump.ts';

const SIZE = { services: 20, workloads: 300 };
const NODE = 'node-7.example.internal';
const log = new Logging({ sink: { write: () => undefined } }).scope('test');

/** Applies resources as a response of the control plane. */
function receive(store: MeshStore, resources: readonly Resource[], removed: string[] = []): void {
  const type = addressType(store, log);
  const set = resources.map(({ name, version, resource }) => ({
    name,
    version,
    resource: type.decode(resource?.value ?? new Uint8Array(), name),
  }));
  t.same(type.apply({ set, removed }), []);
}

/** Another store that follows, as a data worker does. */
function followerOf(store: MeshStore): { follower: MeshStore; kinds: string[] } {
  const follower = new MeshStore(NODE, { seed: store.seed, compacts: false });
  const kinds: string[] = [];
  follower.apply([...store.snapshot()]);
  store.onChange((changes) => {
    kinds.push(...changes.map(({ kind }) => kind));
    follower.apply(changes);
  });
  return { follower, kinds };
}

/** The same state from decoded objects. */
function plainOf(resources: readonly Resource[]): MeshStore {
  const store = new MeshStore(NODE);
  store.apply(resources.map(({ resource }) => decodeAddress(resource?.value ?? new Uint8Array()) as StateChange));
  return store;
}

const sorted = (store: MeshStore): object => {
  const { workloads, services, stagedServices } = dumpState(store);
  const text = (list: readonly object[]): string[] => list.map((one) => JSON.stringify(one)).sort();
  return { workloads: text(workloads), services: text(services).map((one) => one.split('').sort().join('')), stagedServices };
};

t.test('everything is found as in a store of objects, also by a follower', async (t) => {
  const resources = meshResources(SIZE);
  const store = new MeshStore(NODE);
  const { follower } = followerOf(store);
  receive(store, resources);
  const plain = plainOf(resources);
  for (const each of [store, follower]) {
    t.equal(each.workloads.size, 300);
    t.equal(each.services.size, 20);
    t.same(sorted(each), sorted(plain));
    for (const { uid, network, ips, services } of plain.workloads.values()) {
      t.same(each.workloads.get(uid), plain.workloads.get(uid));
      t.equal(each.workloads.byAddress(network, ips[0] ?? '')?.uid, uid);
      for (const key of services.keys()) t.ok(each.services.endpoints(key).has(uid));
    }
    for (const { key, hostname, vips } of plain.services.values()) {
      t.same(each.services.get(key), plain.services.get(key));
      t.equal(each.services.byHostname(hostname, 'other')?.key, key);
      t.equal(each.services.byVip('', (vips[0] ?? '').slice(1), 'other')?.key, key);
      t.equal(each.services.endpoints(key).size, 15);
      t.same(new Set(each.services.endpoints(key).keys()), new Set(plain.services.endpoints(key).keys()));
    }
    t.same(each.workloads.localIdentities(), plain.workloads.localIdentities());
    t.equal(each.workloads.localIdentities().size, 1, 'of the one workload on this node');
    t.equal(each.workloads.get(workloadUid('nobody')), undefined);
    t.equal(each.services.endpoints(namespacedHostname('no', 'where')).size, 0);
  }
});

t.test('changes replace and removals remove, whatever else shares the batch', async (t) => {
  const store = new MeshStore(NODE);
  const { follower } = followerOf(store);
  receive(store, meshResources(SIZE));
  const first = workloadResource(0, SIZE.services, 7);
  receive(store, [first]);
  const gone = workloadResource(1, SIZE.services, 1).name;
  receive(store, [], [gone]);
  for (const each of [store, follower]) {
    t.equal(each.workloads.get(workloadUid(first.name))?.capacity, 7);
    t.equal(each.workloads.byAddress('', '10.0.0.0')?.capacity, 7);
    t.equal(each.workloads.get(workloadUid(gone)), undefined);
    t.equal(each.workloads.byAddress('', '10.0.0.1'), undefined);
    t.equal(each.workloads.size, 299);
  }
});

t.test('what changes over and over takes no more memory: batches are put together, and followers told', async (t) => {
  const store = new MeshStore(NODE);
  const { follower, kinds } = followerOf(store);
  const size = { services: 20, workloads: 1300 };
  receive(store, meshResources(size));
  for (let round = 2; round <= 4; round++)
    for (let index = 0; index < size.workloads; index++) receive(store, [workloadResource(index, size.services, round)]);
  const times = kinds.filter((kind) => kind === 'moved').length;
  t.ok(times >= 2 && times < 10, `${times} times`);
  for (const each of [store, follower]) {
    t.equal(each.workloads.size, size.workloads);
    t.ok([...each.workloads.values()].every(({ capacity }) => capacity === 4));
    const batches = new Set([...each.workloads.encoded()].map((place) => ('batch' in place ? place.batch : undefined)));
    t.ok(batches.size <= 1025, `${batches.size} batches`);
  }
  t.same(sorted(follower), sorted(store));
});

t.test('what is replaced here and there leaves batches that stay, and later changes cost no more than before', async (t) => {
  const store = new MeshStore(NODE);
  const { follower, kinds } = followerOf(store);
  const size = { services: 20, workloads: 40_000 };
  receive(store, meshResources(size));
  const some = Array.from({ length: size.workloads }, (_, index) => index).filter((index) => index % 5 < 2);
  receive(
    store,
    some.map((index) => workloadResource(index, size.services, 2)),
  );
  kinds.splice(0);
  for (let round = 3; round <= 20; round++) receive(store, [workloadResource(0, size.services, round)]);
  const times = kinds.filter((kind) => kind === 'moved').length;
  t.ok(times <= 1, `put together ${times} times`);
  for (const each of [store, follower]) {
    t.equal(each.workloads.size, size.workloads);
    t.equal(each.workloads.byAddress('', '10.0.0.0')?.capacity, 20);
  }
});

t.test('a snapshot has what is in use and nothing else', async (t) => {
  const store = new MeshStore(NODE);
  receive(store, meshResources(SIZE));
  receive(
    store,
    [],
    Array.from({ length: 290 }, (_, index) => workloadResource(index, SIZE.services, 1).name),
  );
  const changes = [...store.snapshot()];
  const batches = changes.flatMap((change): EncodedBatch[] => (change.kind === 'encoded' ? [change.batch] : []));
  t.equal(
    batches.reduce((sum, batch) => sum + [...entriesOf(batch)].length, 0),
    30,
  );
  const other = new MeshStore(NODE, { seed: store.seed });
  other.apply(changes);
  t.same(sorted(other), sorted(store));
});

t.test('names that share a hash are told apart', async (t) => {
  const seen = new Map<number, string>();
  let pair: [string, string] | undefined;
  for (let index = 0; !pair && index < 2_000_000; index++) {
    const uid = `uid-${index}`;
    const hash = textHash(uid, 1);
    const other = seen.get(hash);
    if (other !== undefined) pair = [other, uid];
    seen.set(hash, uid);
  }
  if (!pair) return t.fail('no two names of one hash');
  const store = new MeshStore(NODE, { seed: 1 });
  const [a, b] = pair.map((uid) => ({
    ...plainOf([workloadResource(0, 1, 1)])
      .workloads.values()
      .next().value,
    uid: workloadUid(uid),
  }));
  for (const workload of [a, b]) store.apply([{ kind: 'workload', workload: workload as never }]);
  t.equal(store.workloads.get(workloadUid(pair[0]))?.uid, pair[0]);
  t.equal(store.workloads.get(workloadUid(pair[1]))?.uid, pair[1]);
  store.apply([{ kind: 'remove-address', name: pair[0] }]);
  t.equal(store.workloads.get(workloadUid(pair[0])), undefined);
  t.equal(store.workloads.get(workloadUid(pair[1]))?.uid, pair[1]);
  return undefined;
});

function together(items: readonly { bytes: Uint8Array; keys: AddressKeys }[]): EncodedBatch[] {
  const writer = new BatchWriter();
  for (const { bytes, keys } of items) writer.add(bytes, keys);
  return writer.take();
}

t.test('a batch gives back what was put in', async (t) => {
  const items: { bytes: Uint8Array; keys: AddressKeys }[] = [0, 1, 2].map((index) => ({
    bytes: Uint8Array.from({ length: index * 3 }, (_, at) => at),
    keys: {
      kind: index === 1 ? 'service' : 'workload',
      pinned: index === 2,
      id: index + 1,
      host: index * 10,
      addresses: Array.from({ length: index }, (_, at) => at + 1),
      services: Array.from({ length: 2 - index }, (_, at) => at + 5),
    },
  }));
  const [batch, ...more] = together(items);
  if (!batch) return t.fail('no batch');
  t.same(more, []);
  t.same(
    [...entriesOf(batch)].map((at) => ({ bytes: bytesAt(batch, at), keys: keysAt(batch, at) })),
    items,
  );
  t.ok(batch.bytes.buffer instanceof SharedArrayBuffer, 'shared with other threads');
  const large = together([
    { ...items[0], bytes: new Uint8Array(3 << 20) },
    ...items,
    { ...items[0], bytes: new Uint8Array(1 << 20) },
  ] as typeof items);
  t.same(
    large.map(({ bytes }) => bytes.length),
    [3 << 20, 9, 1 << 20],
    'in batches of a megabyte, or of one that is larger',
  );
  return undefined;
});

t.test('decoded things are few, and those in use stay the same objects', async (t) => {
  let decoded = 0;
  const places = new Places(new Batches(), (bytes) => ({ bytes, number: (decoded += 1) }));
  const [batch] = together(
    Array.from({ length: 5000 }, (_, id) => ({
      bytes: new Uint8Array(1),
      keys: { kind: 'workload' as const, pinned: false, id: id + 1, host: 0, addresses: [], services: [] },
    })),
  );
  if (!batch) return t.fail('no batch');
  const numbers = Array.from(entriesOf(batch), (entry) => places.keepEncoded(batch, entry, false));
  t.equal(decoded, 0, 'nothing is decoded before it is used');
  const [first = 0] = numbers;
  const kept = places.at(first);
  for (const place of numbers) {
    places.at(place);
    if (place % 100 === 0) t.equal(places.at(first), kept);
  }
  t.equal(decoded, 5000);
  places.at(numbers[2] ?? 0);
  t.equal(decoded, 5001, 'what was used long ago is decoded anew');
  return undefined;
});

t.test('a response with a faulty resource counts but for that one', async (t) => {
  const store = new MeshStore(NODE);
  const type = addressType(store, log);
  t.equal(type.typeUrl, ADDRESS);
  t.throws(() => type.decode(new Uint8Array([255, 255]), 'broken'));
  t.throws(() => type.decode(new Uint8Array(), 'empty'), { message: /neither a workload nor a service/u });
});
