// Sockets inside a pod's namespace: original destination, mark, foreign source address.
import type { Test } from 'tap';
import type { Conn } from '#shared/reactor/api.ts';
import { createNetns } from '../../../harness/netns.ts';
import { useReactor, type ReactorFactory } from './pairs.ts';

const MARK = 1337;

export function netnsSuite(t: Test, create: ReactorFactory): void {
  t.test('a redirect in the namespace: the listener learns where the client meant to go', async (t) => {
    const reactor = useReactor(t, create);
    const netns = createNetns(t, 'redirect');
    netns.exec('ip', 'addr', 'add', '10.9.9.9/32', 'dev', 'lo');
    netns.exec('ip', 'addr', 'add', 'fd09::9/128', 'dev', 'lo', 'nodad');
    const accepted: Conn[] = [];
    const waiting: ((conn: Conn) => void)[] = [];
    const listener = await reactor.listen({ netns: netns.fd, address: { ip: '::', port: 0 }, mark: MARK }, (conn) => {
      accepted.push(conn);
      waiting.shift()?.(conn);
    });
    netns.nft(`table inet test { chain out { type nat hook output priority -100;
      meta mark ${MARK} return; tcp dport 80 redirect to :${listener.address.port}; }
}`);
    for (const ip of ['10.9.9.9', 'fd09::9']) {
      const next = new Promise<Conn>((resolve) => waiting.push(resolve));
      await reactor.connect({ netns: netns.fd, to: { ip, port: 80 } });
      const conn = await next;
      t.strictSame(conn.originalDestination(), { ip, port: 80 });
    }
    await t.rejects(reactor.connect({ netns: netns.fd, to: { ip: '10.9.9.9', port: 80 }, mark: MARK }), {
      code: 'connect_failed',
    });
    await t.rejects(reactor.connect({ to: listener.address }), { code: 'connect_failed' }, 'outside of it nobody listens');
    t.equal(accepted.length, 2);
  });

  t.test('connecting from an address that is not ours', async (t) => {
    const reactor = useReactor(t, create);
    const netns = createNetns(t, 'spoof');
    // Answers to the foreign addresses come back to this namespace, as the mark rules do for a real pod.
    netns.exec('ip', 'rule', 'add', 'iif', 'lo', 'to', '10.77.0.0/16', 'lookup', '100');
    netns.exec('ip', 'route', 'add', 'local', '10.77.0.0/16', 'dev', 'lo', 'table', '100');
    netns.exec('ip', '-6', 'route', 'add', 'local', 'fd77::/64', 'dev', 'lo');
    for (const [from, ip] of [
      ['10.77.0.5', '127.0.0.1'],
      ['fd77::5', '::1'],
    ] as const) {
      const accepted = Promise.withResolvers<Conn>();
      const listener = await reactor.listen({ netns: netns.fd, address: { ip, port: 0 } }, accepted.resolve);
      const client = await reactor.connect({ netns: netns.fd, to: listener.address, from: { ip: from, port: 0 } });
      t.equal((await accepted.promise).remote.ip, from);
      t.equal(client.local.ip, from);
    }
  });

  t.test('a transparent listener says so', async (t) => {
    const reactor = useReactor(t, create);
    const netns = createNetns(t, 'transparent');
    for (const [transparent, expected] of [
      ['no', false],
      ['try', true],
      ['require', true],
    ] as const) {
      const listener = await reactor.listen({ netns: netns.fd, address: { ip: '::', port: 0 }, transparent }, () => undefined);
      t.equal(listener.transparent, expected);
    }
  });
}
