// TLS12_ENABLED: peers that speak no TLS 1.3, as clients and as servers. Without it they are refused; with it the tunnel works, and they
// say themselves which version and cipher it has.
import { once } from 'node:events';
import type { TLSSocket } from 'node:tls';
import t from 'tap';
import type { Test } from 'tap';
import { BACKENDS, type Backend } from '#shared/reactor/create.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { type LabNode, MeshLab } from '../harness/mesh-lab.ts';
import { dialTls, serveHttp2, sessionOver, type TlsVersion } from '../harness/node-http2.ts';
import type { TestPod } from '../harness/pod-net.ts';

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const CIPHERS = /^ECDHE-(ECDSA|RSA)-AES(128|256)-GCM-SHA(256|384)$/u;

async function labOf(t: Test, node: 'node-1' | 'node-2', backend: Backend, tls12: boolean): Promise<[MeshLab, LabNode]> {
  const lab = new MeshLab(t);
  const started = await lab.node(node, { CULVERT_BACKEND: backend, ...(tls12 ? { TLS12_ENABLED: 'true' } : {}) });
  await lab.apply(web, cart);
  return [lab, started];
}

/** Calls the cart's ztunnel as the web. */
function call(lab: MeshLab, pod: TestPod, maxVersion: TlsVersion): Promise<TLSSocket> {
  return dialTls(pod, cart.ips[0] ?? '', lab.ca.issue(web.identity), maxVersion);
}

/** Five bytes there and back through a CONNECT. */
async function tunnelOver(t: Test, socket: TLSSocket): Promise<string> {
  const stream = sessionOver(t, socket).request({ ':method': 'CONNECT', ':authority': '10.1.0.3:8080' });
  const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
  t.equal(headers[':status'], 200);
  stream.write('hello');
  const [answer] = (await once(stream, 'data')) as [Buffer];
  return answer.toString();
}

const serve = async (t: Test, lab: MeshLab, maxVersion: TlsVersion): Promise<TLSSocket[]> =>
  (await serveHttp2(t, lab.pod(cart), lab.ca.issue(cart.identity), maxVersion)).sockets;

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
