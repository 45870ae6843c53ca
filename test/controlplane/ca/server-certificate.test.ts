import { X509Certificate } from 'node:crypto';
import { connect } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { once } from 'node:events';
import { Server } from '@grpc/grpc-js';
import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Issuer } from '../../../controlplane/ca/issuer.ts';
import { loadAuthority } from '../../../controlplane/ca/root.ts';
import { ServerCertificate } from '../../../controlplane/ca/server-certificate.ts';
import { folder } from './ca-fixture.ts';

t.setTimeout(15_000);

const HOUR = 3_600_000;

async function handshake(port: number, ca: string, name: string): Promise<X509Certificate> {
  const socket: TLSSocket = connect({
    port,
    host: '127.0.0.1',
    ca,
    ALPNProtocols: ['h2'],
    ...(name.includes('.') && !/^[\d.]+$/u.test(name) && { servername: name }),
  });
  await once(socket, 'secureConnect');
  const raw = socket.getPeerX509Certificate()?.raw;
  socket.destroy();
  return new X509Certificate(raw ?? Buffer.alloc(0));
}

t.test('names, and renewal at half of its life while the server runs', async (t) => {
  await using dir = await folder();
  const clock = new FakeClock(Date.now() - 13.5 * HOUR);
  const authority = await loadAuthority({ stateDir: dir.path, trustDomain: 'td', clock });
  const issuer = new Issuer({ authority, clock, defaultTtl: HOUR, maxTtl: HOUR });
  const log = new Logging({ sink: { write: () => undefined } }).scope('ca');
  using certificate = new ServerCertificate(issuer, ['istiod.test.svc', '127.0.0.1', '::1'], clock, log);
  const server = new Server();
  t.teardown(() => server.forceShutdown());
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', certificate.credentials(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const first = await handshake(port, authority.roots, '127.0.0.1');
  t.equal(first.subjectAltName, 'DNS:istiod.test.svc, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1');
  clock.advance(11 * HOUR);
  t.equal((await handshake(port, authority.roots, 'istiod.test.svc')).serialNumber, first.serialNumber);
  clock.advance(2 * HOUR);
  const second = await handshake(port, authority.roots, 'istiod.test.svc');
  t.not(second.serialNumber, first.serialNumber);
  t.ok(second.validToDate > first.validToDate);
});
