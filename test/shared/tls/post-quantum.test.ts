// COMPLIANCE_POLICY=pqc: keys are agreed on with X25519MLKEM768 or not at all.
import t from 'tap';
import { createReactor } from '#shared/reactor/create.ts';
import type { Backend } from '#shared/reactor/create.ts';
import { BACKENDS } from '#shared/reactor/create.ts';
import type { Conn, Reactor } from '#shared/reactor/api.ts';
import { nodeTls } from '#shared/tls/node-tls.ts';
import { createTestCa } from '../../harness/test-ca.ts';

const ca = createTestCa();
const certificate = ca.issue('spiffe://cluster.local/ns/a/sa/a');
const options = { certificate, alpn: ['h2'], verifyPeer: () => undefined, timeout: 3000 };

async function shake(client: Reactor, server: Reactor): Promise<string> {
  const accepted = Promise.withResolvers<Conn>();
  const listener = await server.listen({ address: { ip: '127.0.0.1', port: 0 } }, accepted.resolve);
  const serving = accepted.promise.then((conn) => server.tlsServer(conn, options));
  serving.catch(() => undefined);
  const conn = await client.connect({ to: listener.address });
  const tls = await client.tlsClient(conn, options).catch((error: Error) => error);
  const served = await serving.catch((error: Error) => error);
  for (const end of [tls, served]) if (!(end instanceof Error)) end.reset();
  return served instanceof Error ? served.message : 'served';
}

for (const backend of BACKENDS)
  t.test(backend, async (t) => {
    const reactor = (kind: Backend, postQuantum: boolean): Reactor => {
      const made = createReactor({ backend: kind, postQuantum });
      t.teardown(() => made.close());
      return made;
    };
    const [strict, usual] = [reactor(backend, true), reactor(backend, false)];
    t.equal(await shake(strict, strict), 'served');
    t.equal(await shake(usual, strict), 'served', 'who can, does');
    t.equal(await shake(strict, usual), 'served');

    const accepted = Promise.withResolvers<Conn>();
    const listener = await strict.listen({ address: { ip: '127.0.0.1', port: 0 } }, accepted.resolve);
    const old = nodeTls().connect({
      host: '127.0.0.1',
      port: listener.address.port,
      ecdhCurve: 'X25519',
      rejectUnauthorized: false,
      cert: certificate.chain,
      key: certificate.key,
      ALPNProtocols: ['h2'],
    });
    old.on('error', () => undefined);
    const conn = await accepted.promise;
    await t.rejects(strict.tlsServer(conn, options), { code: 'tls_failure' }, 'who cannot is refused');
    old.destroy();
  });
