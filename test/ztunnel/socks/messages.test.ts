import fc from 'fast-check';
import t from 'tap';
import { MeshError } from '#shared/errors.ts';
import { METHOD_CHOSEN, NO_METHOD, readGreeting, readRequest, reply, REPLY, replyOf } from '../../../ztunnel/socks/messages.ts';

const bytes = (...parts: (number | string)[]): Uint8Array =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.of(part))));

t.test('greetings', async (t) => {
  t.strictSame(readGreeting(bytes()), { kind: 'more' });
  t.strictSame(readGreeting(bytes(5)), { kind: 'more' });
  t.strictSame(readGreeting(bytes(5, 2, 1)), { kind: 'more' });
  t.strictSame(readGreeting(bytes(5, 2, 1, 0, 5)), { kind: 'message', value: undefined, length: 4 });
  t.match(readGreeting(bytes(4, 1, 0)), { kind: 'fault', reason: 'SOCKS5: version 4 is not spoken, only 5', answer: NO_METHOD });
  t.match(readGreeting(bytes(5, 1, 2)), { kind: 'fault', answer: NO_METHOD });
  t.match(readGreeting(bytes(5, 0)), { kind: 'fault', answer: NO_METHOD });
  t.strictSame([...METHOD_CHOSEN], [5, 0]);
});

t.test('requests', async (t) => {
  t.strictSame(readRequest(bytes(5, 1, 0, 1, 10, 1, 0, 3, 0x1f, 0x90)), {
    kind: 'message',
    value: { kind: 'ip', ip: '10.1.0.3', port: 8080 },
    length: 10,
  });
  t.match(readRequest(bytes(5, 1, 0, 4, 0xfd, ...Array<number>(14).fill(0), 1, 0, 80)), {
    value: { ip: 'fd00::1', port: 80 },
    length: 22,
  });
  t.match(readRequest(bytes(5, 1, 0, 3, 9, 'Cart.Shop', 0, 80)), {
    value: { kind: 'name', name: 'cart.shop', port: 80 },
    length: 16,
  });
  t.match(readRequest(bytes(5, 1, 0, 3, 5, 'cart.', 0, 80)), { value: { name: 'cart' } });
  for (const [request, code] of [
    [bytes(5, 2, 0, 1, 10, 1, 0, 3, 0, 80), REPLY.commandNotSupported],
    [bytes(5, 1, 0, 9, 10, 1, 0, 3, 0, 80), REPLY.addressTypeNotSupported],
    [bytes(5, 1, 0, 1, 10, 1, 0, 3, 0, 0), REPLY.hostUnreachable],
    [bytes(5, 1, 0, 3, 1, ' ', 0, 80), REPLY.hostUnreachable],
    [bytes(5, 1, 0, 3, 0, 0, 80), REPLY.hostUnreachable],
    [bytes(4, 1, 0, 1, 10, 1, 0, 3, 0, 80), REPLY.failure],
  ] as const)
    t.match(readRequest(request), { kind: 'fault', answer: reply(code) });
});

t.test('any bytes are understood, awaited or refused, and the same bytes in pieces say the same', async () => {
  const message = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.uint8Array({ maxLength: 300 }).map((rest) => bytes(5, 1, 0, 3, ...rest)),
    fc.uint8Array({ maxLength: 20 }).map((rest) => bytes(5, 1, 0, 1, ...rest)),
  );
  for (const read of [readGreeting, readRequest])
    fc.assert(
      fc.property(message, fc.nat(300), (all, cut) => {
        const whole = read(all);
        const part = read(all.subarray(0, cut));
        if (whole.kind === 'more' && all.length > 262) throw new Error('asks for more than a message has');
        if (whole.kind === 'message' && (whole.length > all.length || whole.length > 262))
          throw new Error('reads past its bytes');
        if (part.kind === 'message' && cut <= all.length && JSON.stringify(part) !== JSON.stringify(whole))
          throw new Error('more bytes change what was said');
      }),
      { numRuns: 2000 },
    );
});

t.test('every failure has a reply', async (t) => {
  t.equal(replyOf(new MeshError('policy_denied', 'no')), REPLY.notAllowed);
  t.equal(replyOf(new MeshError('connect_timeout', 'no')), REPLY.hostUnreachable);
  t.equal(
    replyOf(new MeshError('connect_failed', 'no', { cause: Object.assign(new Error('no'), { code: 'ECONNREFUSED' }) })),
    REPLY.refused,
  );
  t.equal(replyOf(new MeshError('connect_failed', 'no')), REPLY.hostUnreachable);
  t.equal(replyOf(new MeshError('internal', 'no')), REPLY.failure);
});
