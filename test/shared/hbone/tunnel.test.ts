import { randomBytes } from 'node:crypto';
import { test } from 'tap';
import { nextId } from '#shared/collections/id-table.ts';
import { MeshError } from '#shared/errors.ts';
import { CancelScope } from '#shared/lifecycle/cancel.ts';
import type { Tunnel } from '#shared/hbone/api.ts';
import { relay } from '#shared/hbone/relay.ts';
import type { Conn } from '#shared/reactor/api.ts';
import { BACKENDS } from '#shared/reactor/create.ts';
import { client, echo, meshOn, read, server, until } from '../../harness/hbone.ts';

for (const backend of BACKENDS) {
  const mesh = meshOn(backend);

  test(`${backend}: a tunnel carries bytes both ways and half-close`, async (t) => {
    const { pool, request } = await mesh(t, (tunnel) => {
      t.equal(tunnel.authority, '10.0.0.2:8080');
      t.same(tunnel.headers, [['baggage', 'k8s.namespace.name=shop']]);
      echo(tunnel.accept([['x-answer', 'yes']]));
    });
    const tunnel = await pool.open(request);
    t.same(tunnel.headers, [['x-answer', 'yes']]);
    t.same(tunnel.peer.uris, [server]);
    const payload = randomBytes(3_000_000);
    const result = read(tunnel.stream);
    tunnel.stream.write(payload);
    tunnel.stream.end();
    const { bytes, reason } = await result;
    t.ok(bytes.equals(payload), 'the same bytes come back');
    t.same(reason, { kind: 'ended' });
  });

  test(`${backend}: tunnels share a connection, slots are used again`, async (t) => {
    const { pool, request } = await mesh(t, (tunnel) => echo(tunnel.accept([])), { maxStreams: 2 });
    const tunnels = await Promise.all([1, 2, 3].map(() => pool.open(request)));
    t.equal(pool.size, 2, 'two on the first, one on a second');
    const finish = async ({ stream }: Tunnel): Promise<void> => {
      stream.end();
      await read(stream);
    };
    await Promise.all(tunnels.map(finish));
    const again = await Promise.all([1, 2, 3, 4].map(() => pool.open(request)));
    t.equal(pool.size, 2);
    await Promise.all(again.map(finish));
  });

  test(`${backend}: refusals, resets and mismatches name themselves`, async (t) => {
    const { pool, request } = await mesh(t, (tunnel) => tunnel.refuse(401));
    await t.rejects(pool.open(request), { code: 'tunnel_refused', message: /http status: 401/u });
    await t.rejects(pool.open({ ...request, peer: { ...request.peer, accepted: [client] } }), {
      code: 'identity_mismatch',
      message:
        /expected SAN \(spiffe:\/\/cluster.local\/ns\/shop\/sa\/client\), got spiffe:\/\/cluster.local\/ns\/shop\/sa\/server/u,
    });
  });

  test(`${backend}: one failed connect fails all who wait for it at once`, async (t) => {
    const { pool, request } = await mesh(t, () => {});
    const nobody = { ...request, peer: { ...request.peer, to: { ip: '127.0.0.1', port: 1 } } };
    const results = await Promise.allSettled([1, 2, 3].map(() => pool.open(nobody)));
    for (const result of results) t.match(result, { status: 'rejected', reason: { code: 'connect_failed' } });
  });

  test(`${backend}: a cancelled open gives up; the server hears of it`, async (t) => {
    const seen = Promise.withResolvers<void>();
    const { pool, request } = await mesh(t, (tunnel) => {
      tunnel.cancel.add({ id: nextId(), onCancel: () => seen.resolve() });
      scope.cancel(new MeshError('reset', 'the client left'));
    });
    const scope = new CancelScope();
    await t.rejects(pool.open({ ...request, cancel: scope }), { message: 'the client left' });
    await seen.promise;
  });

  test(`${backend}: GOAWAY: drained server finishes its streams, the pool dials anew`, async (t) => {
    const { pool, request, sessions } = await mesh(t, (tunnel) => echo(tunnel.accept([])));
    const old = await pool.open(request);
    let drained = false;
    const drain = sessions[0]!.drain().then(() => (drained = true));
    let fresh = await pool.open(request);
    // Until GOAWAY has arrived, tunnels still go on the old connection.
    while (sessions.length < 2) {
      fresh.stream.reset();
      fresh = await pool.open(request);
    }
    t.notOk(drained);
    for (const { stream } of [old, fresh]) {
      const result = read(stream);
      stream.write(Buffer.from('still here'));
      stream.end();
      t.equal((await result).bytes.toString(), 'still here');
    }
    await drain;
  });

  test(`${backend}: relay: TCP - tunnel - TCP`, async (t) => {
    const payload = randomBytes(2_000_000);
    const { pool, request, reactor } = await mesh(t, (tunnel) => {
      reactor.connect({ to: app.address }).then((upstream) => relay(tunnel.accept([]), upstream));
    });
    const app = await reactor.listen({ address: { ip: '127.0.0.1', port: 0 } }, (conn) => echo(conn));
    const results: Awaited<ReturnType<typeof relay>['done']>[] = [];
    const proxy = await reactor.listen({ address: { ip: '127.0.0.1', port: 0 } }, (conn: Conn) => {
      const joined = pool.open(request).then((tunnel) => relay(conn, tunnel.stream).done);
      joined.then((result) => results.push(result));
    });
    const conn = await reactor.connect({ to: proxy.address });
    const result = read(conn);
    conn.write(payload);
    conn.end();
    const { bytes, reason } = await result;
    t.ok(bytes.equals(payload));
    t.same(reason, { kind: 'ended' });
    await until(() => results.length === 1);
    t.match(results, [
      { sent: payload.length, received: payload.length, downstream: { kind: 'ended' }, upstream: { kind: 'ended' } },
    ]);

    const second = await reactor.connect({ to: proxy.address });
    const echoed = Promise.withResolvers<void>();
    second.start({ onData: () => echoed.resolve(), onEnd: () => {}, onDrain: () => {}, onClose: () => {} });
    second.write(Buffer.from('x'));
    await echoed.promise;
    second.reset();
    await until(() => results.length === 2);
    t.match(results[1], { downstream: { kind: 'reset', remote: true }, upstream: { kind: 'reset', remote: false } });
  });
}
