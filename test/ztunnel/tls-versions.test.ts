// TLS12_ENABLED: peers that speak no TLS 1.3, as clients and as servers. Without it they are refused; with it the tunnel works, and they
// say themselves which version and cipher it has.
import { once } from 'node:events';
import { connect as http2Connect, createSecureServer, type ServerHttp2Stream } from 'node:http2';
import { connect as tlsConnect, type TLSSocket } from 'node:tls';
import t from 'tap';
import type { Test } from 'tap';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { BACKENDS, type Backend } from '#shared/reactor/create.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { type LabNode, MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const HBONE = 15_008;
const CIPHERS = /^ECDHE-(ECDSA|RSA)-AES(128|256)-GCM-SHA(256|384)$/u;

type Version = 'TLSv1.2' | 'TLSv1.3';

async function labOf(t: Test, node: 'node-1' | 'node-2', backend: Backend, tls12: boolean): Promise<[MeshLab, LabNode]> {
  const lab = new MeshLab(t);
  const started = await lab.node(node, { CULVERT_BACKEND: backend, ...(tls12 ? { TLS12_ENABLED: 'true' } : {}) });
  await lab.apply(web, cart);
  return [lab, started];
}

function tlsOptions({ chain, key, roots }: WorkloadCertificate, maxVersion: Version) {
  return { cert: chain, key, ca: roots, maxVersion, ALPNProtocols: ['h2'] };
}

/** Calls the cart's ztunnel; rejects with what TLS says. */
async function call(lab: MeshLab, pod: TestPod, maxVersion: Version): Promise<TLSSocket> {
  const options = tlsOptions(lab.ca.issue(web.identity), maxVersion);
  const socket = pod.dial({ ip: '10.1.0.3', port: HBONE });
  // Names of hosts are of no account here.
  const tls = tlsConnect({ ...options, socket, checkServerIdentity: () => undefined });
  await once(tls, 'secureConnect');
  return tls;
}

/** Five bytes there and back through a CONNECT. */
async function tunnelOver(t: Test, socket: TLSSocket): Promise<string> {
  const session = http2Connect('https://cart', { createConnection: () => socket });
  t.teardown(() => session.destroy());
  const stream = session.request({ ':method': 'CONNECT', ':authority': '10.1.0.3:8080' });
  const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
  t.equal(headers[':status'], 200);
  stream.write('hello');
  const [answer] = (await once(stream, 'data')) as [Buffer];
  return answer.toString();
}

/** A server of HBONE in the cart's pod; gathers what its connections are. */
async function serve(t: Test, lab: MeshLab, maxVersion: Version): Promise<TLSSocket[]> {
  const options = tlsOptions(lab.ca.issue(cart.identity), maxVersion);
  const server = createSecureServer({ ...options, requestCert: true });
  const sessions: TLSSocket[] = [];
  server.on('secureConnection', (socket) => void sessions.push(socket));
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.respond({ ':status': 200 });
    stream.pipe(stream);
  });
  await lab.pod(cart).serve((socket) => void server.emit('connection', socket), HBONE);
  t.teardown(() => sessions.forEach((socket) => socket.destroy()));
  return sessions;
}

for (const backend of BACKENDS) {
  t.test(`${backend}: a client of TLS 1.2 is refused`, async (t) => {
    const [lab, node] = await labOf(t, 'node-2', backend, false);
    await lab.captured(cart);
    const pod = lab.pod(web);
    await t.rejects(call(lab, pod, 'TLSv1.2'), { code: /PROTOCOL_VERSION|ECONNRESET/u });
    const line = await node.line({ message: 'connection failed', direction: 'inbound' });
    t.match(line, { error: /tls handshake error: .*(unsupported protocol|UNSUPPORTED_PROTOCOL)/u });
    (await call(lab, pod, 'TLSv1.3')).destroy();
  });

  t.test(`${backend}: TLS12_ENABLED: a client of TLS 1.2 is served`, async (t) => {
    const [lab, node] = await labOf(t, 'node-2', backend, true);
    const server = await lab.captured(cart);
    await server.serve((socket) => void socket.pipe(socket), 8080);
    const pod = lab.pod(web);
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = await call(lab, pod, version);
      t.equal(socket.getProtocol(), version);
      t.equal(socket.alpnProtocol, 'h2');
      if (version === 'TLSv1.2') t.match(socket.getCipher().name, CIPHERS);
      t.equal(await tunnelOver(t, socket), 'hello');
      socket.destroy();
      t.match(await node.line({ direction: 'inbound' }), { 'src.identity': web.identity });
    }
  });

  t.test(`${backend}: a server of TLS 1.2 is refused`, async (t) => {
    const [lab, node] = await labOf(t, 'node-1', backend, false);
    const sessions = await serve(t, lab, 'TLSv1.2');
    const end = await Endpoint.open(await lab.captured(web), { ip: '10.1.0.3', port: 8080 });
    await end.until('closed');
    t.same([end.seen, end.bytes, sessions], [['reset', 'closed'], 0, []]);
    t.match(await node.line({ direction: 'outbound', level: 'error' }), { error: /protocol version/iu });
    t.equal(await node.metric('istio_tcp_connections_failed_total', 'response_flags="TLS_FAILURE"'), 1);
  });

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
    t.test(`${backend}: TLS12_ENABLED: a server of ${version} is taken`, async (t) => {
      const [lab, node] = await labOf(t, 'node-1', backend, true);
      const sessions = await serve(t, lab, version);
      const end = await Endpoint.open(await lab.captured(web), { ip: '10.1.0.3', port: 8080 });
      end.socket.write('hello');
      await end.untilBytes(5);
      t.same(
        sessions.map((socket) => [socket.getProtocol(), socket.alpnProtocol]),
        [[version, 'h2']],
      );
      if (version === 'TLSv1.2') t.match(sessions[0]?.getCipher().name, CIPHERS);
      end.socket.end();
      await end.until('closed');
      t.match(await node.line({ direction: 'outbound', level: 'info' }), { 'dst.identity': cart.identity });
    });
}
