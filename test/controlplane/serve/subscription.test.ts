// Subscriptions message by message, without a network: what a request means and what the next response holds.
import { create, fromBinary } from '@bufbuild/protobuf';
import { AnySchema } from '@bufbuild/protobuf/wkt';
import t from 'tap';
import { DeltaSubscription } from '../../../controlplane/serve/delta-subscription.ts';
import { SotwSubscription } from '../../../controlplane/serve/sotw-subscription.ts';
import type { AdsRequest, AdsResponse, Subscription } from '../../../controlplane/serve/subscription.ts';
import { TYPE } from '../../../controlplane/serve/types.ts';
import { encodeResource, ResourceSet } from '../../../controlplane/snapshot/resource-set.ts';
import {
  DeltaDiscoveryResponseSchema,
  DiscoveryResponseSchema,
} from '../../../shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { AddressSchema } from '../../../shared/gen/istio/workload/workload_pb.ts';

/** A set of named resources with contents. */
function setOf(contents: Record<string, string>): ResourceSet {
  const message = (name: string) => create(AddressSchema, { type: { case: 'service', value: { name } } });
  return ResourceSet.of(Object.entries(contents).map(([name, content]) => encodeResource(AddressSchema, name, message(content))));
}

function ask(request: Partial<AdsRequest> = {}): AdsRequest {
  return {
    typeUrl: TYPE.address,
    responseNonce: '',
    errorDetail: undefined,
    names: [],
    unsubscribe: [],
    initialVersions: {},
    ...request,
  };
}

/** What a response says: `name=…` set, `-name` removed; `nothing` when there is none. */
function told(response: AdsResponse | undefined): string {
  if (!response) return 'nothing';
  const { resources, removedResources } = fromBinary(DeltaDiscoveryResponseSchema, response.bytes);
  return [...resources.map(({ name }) => name).sort(), ...removedResources.map((name) => `-${name}`).sort()].join(' ');
}

const nonce = (subscription: Subscription): string => subscription.status.nonceSent;

t.test('frames are what protobuf would have written', async (t) => {
  const message = create(AddressSchema, { type: { case: 'service', value: { name: 'x' } } });
  const resource = encodeResource(AddressSchema, 'a', message);
  const delta = fromBinary(DeltaDiscoveryResponseSchema, resource.deltaFrame).resources;
  t.match(delta, [{ name: 'a', version: resource.version, resource: { typeUrl: TYPE.address } }]);
  const [any] = fromBinary(DiscoveryResponseSchema, resource.sotwFrame).resources;
  t.same(fromBinary(AddressSchema, (any ?? create(AnySchema)).value), message);
  t.equal(encodeResource(AddressSchema, 'a', message, resource), resource, 'the same content is the same object');
});

t.test('delta wildcard', async (t) => {
  const subscription = new DeltaSubscription(TYPE.address);
  t.equal(subscription.accept(ask()), 'first');
  t.equal(told(subscription.respond(setOf({ a: '1', b: '1' }), 1)), 'a b');
  t.notOk(subscription.mayRespond, 'one at a time');
  t.equal(subscription.accept(ask({ responseNonce: nonce(subscription) })), 'ack');
  t.ok(subscription.mayRespond);
  t.equal(told(subscription.respond(setOf({ a: '1', b: '1' }), 2)), 'nothing');
  t.equal(told(subscription.respond(setOf({ a: '2', c: '1' }), 3)), 'a c -b');
  t.match(subscription.status, { sent: 3, acked: 1 });
});

t.test('delta: an empty first answer is an answer', async (t) => {
  const subscription = new DeltaSubscription(TYPE.address);
  subscription.accept(ask());
  t.equal(told(subscription.respond(setOf({}), 1)), '');
});

t.test('delta named', async (t) => {
  const subscription = new DeltaSubscription(TYPE.endpoints);
  const names = (...list: string[]): AdsRequest => ask({ names: list });
  subscription.accept(names('a', 'none'));
  t.equal(told(subscription.respond(setOf({ a: '1', b: '1' }), 1)), 'a -none');
  subscription.accept(names('b'));
  t.ok(subscription.mayRespond, 'the client asks: answered although the last is under way');
  t.equal(told(subscription.respond(setOf({ a: '1', b: '1' }), 1)), 'b');
  subscription.accept(names('b'));
  t.equal(told(subscription.respond(setOf({ a: '1', b: '1' }), 1)), 'b', 'who asks again is told again');
  t.equal(told(subscription.respond(setOf({ a: '2', b: '1', none: '1' }), 2)), 'a none');
  subscription.accept(ask({ unsubscribe: ['a'] }));
  t.equal(told(subscription.respond(setOf({ a: '3', b: '1', none: '1' }), 3)), 'nothing');
  t.equal(told(subscription.respond(setOf({ b: '1' }), 4)), '-none');
  subscription.forget(['b']);
  t.equal(told(subscription.respond(setOf({ b: '1' }), 4)), 'b', 'forgotten: sent again');
});

t.test('delta: too many unanswered questions wait', async (t) => {
  const subscription = new DeltaSubscription(TYPE.address);
  for (let n = 0; n < 4; n++) {
    subscription.accept(ask({ names: [`n${n}`] }));
    t.ok(subscription.mayRespond);
    subscription.respond(setOf({}), 1);
  }
  subscription.accept(ask({ names: ['n4'] }));
  t.notOk(subscription.mayRespond);
  subscription.accept(ask({ responseNonce: nonce(subscription) }));
  t.ok(subscription.mayRespond, 'answering the last answers those before it');
  t.equal(told(subscription.respond(setOf({ n4: '1' }), 1)), 'n4');
});

t.test('answers', async (t) => {
  const subscription = new DeltaSubscription(TYPE.address);
  subscription.accept(ask());
  subscription.respond(setOf({ a: '1' }), 7);
  t.equal(subscription.accept(ask({ responseNonce: 'unknown' })), 'stale');
  t.equal(subscription.accept(ask({ responseNonce: nonce(subscription), errorDetail: 'x'.repeat(5000) })), 'nack');
  t.match(subscription.status.nacked, { sequence: 7 });
  t.equal(subscription.status.nacked?.reason.length, 2048, 'the reason is bounded');
  t.equal(told(subscription.respond(setOf({ a: '1' }), 8)), 'nothing', 'not sent again');
  t.equal(told(subscription.respond(setOf({ a: '2' }), 9)), 'a');
  subscription.accept(ask({ responseNonce: nonce(subscription) }));
  t.equal(subscription.status.nacked, undefined, 'healed');
});

t.test('more names than a proxy can mean', async (t) => {
  const many = Array.from({ length: 100_001 }, (_, index) => String(index));
  t.throws(() => new DeltaSubscription(TYPE.address).accept(ask({ names: many })), { message: /more than 100000 names/u });
  const long = new DeltaSubscription(TYPE.address);
  long.accept(ask({ names: ['a'.repeat(5_000_000)] }));
  t.throws(() => long.accept(ask({ names: ['b'.repeat(5_000_000)] })), { message: /characters/u });
  t.throws(() => new SotwSubscription(TYPE.address).accept(ask({ names: many })), { message: /more than 100000 names/u });
});

t.test('SotW', async (t) => {
  const all = (response: AdsResponse | undefined): string => response?.names.join(' ') ?? 'nothing';
  const wildcard = new SotwSubscription(TYPE.cluster);
  wildcard.accept(ask());
  t.equal(all(wildcard.respond(setOf({ a: '1', b: '1' }), 1)), 'a b');
  t.equal(all(wildcard.respond(setOf({ a: '1', b: '1' }), 2)), 'nothing');
  t.equal(all(wildcard.respond(setOf({ a: '1' }), 3)), 'a');

  const named = new SotwSubscription(TYPE.endpoints);
  named.accept(ask());
  t.notOk(named.owed, 'no names: no answer');
  t.equal(all(named.respond(setOf({ a: '1' }), 1)), 'nothing');
  named.accept(ask({ names: ['a', 'b'] }));
  t.equal(all(named.respond(setOf({ a: '1', b: '1' }), 1)), 'a b');
  named.accept(ask({ names: ['a'], responseNonce: nonce(named) }));
  t.notOk(named.owed, 'fewer names: no answer');
  named.accept(ask({ names: ['a', 'c'], responseNonce: 'older' }));
  t.notOk(named.owed, 'the names of an outdated request do not count');
  named.accept(ask({ names: ['a', 'c'], responseNonce: nonce(named) }));
  t.ok(named.owed);
  t.equal(all(named.respond(setOf({ a: '1', c: '1' }), 2)), 'a c');
});
