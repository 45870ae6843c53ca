// RST_STREAM within an open tunnel, by a peer that is not ours (facts: ztunnel 5): which codes are an end, and which a fault.
import { once } from 'node:events';
import { constants } from 'node:http2';
import type { Socket } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { type LabNode, MeshLab } from '../harness/mesh-lab.ts';
import { dialTls, serveHttp2, sessionOver } from '../harness/node-http2.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

/** Whether it is a fault. NO_ERROR says that no more is wanted: the other end may still end in order. */
const CODES = {
  NO_ERROR: false,
  CANCEL: false,
  STREAM_CLOSED: false,
  INTERNAL_ERROR: true,
  CONNECT_ERROR: true,
  ENHANCE_YOUR_CALM: true,
} as const;

async function told(t: Test, node: LabNode, name: keyof typeof CODES, direction: string): Promise<void> {
  const line = await node.line({ direction, message: 'connection complete' });
  const fault = { level: 'error', error: `the peer reset the tunnel (${name})` };
  t.match(line, CODES[name] ? fault : { level: 'info', error: undefined }, name);
  const counted = await node.metric('istio_tcp_connections_failed_total', 'response_flags="UC"');
  const faults = Object.entries(CODES).filter(([, isFault]) => isFault);
  t.equal(counted, CODES[name] ? faults.findIndex(([code]) => code === name) + 1 : 0);
}

t.test('by a server', async (t) => {
  const lab = new MeshLab(t);
  const node = await lab.node('node-1');
  await lab.apply(web, cart);
  const client = await lab.captured(web);
  const { streams } = await serveHttp2(t, lab.pod(cart), lab.ca.issue(cart.identity));
  for (const name of Object.keys(CODES) as (keyof typeof CODES)[]) {
    const end = await Endpoint.open(client, { ip: '10.1.0.3', port: 8080 });
    end.socket.write('hello');
    await end.untilBytes(5);
    streams.at(-1)?.close(constants[`NGHTTP2_${name}`]);
    if (name === 'NO_ERROR') end.socket.end();
    await told(t, node, name, 'outbound');
    end.socket.destroy();
  }
});

t.test('by a client', async (t) => {
  const lab = new MeshLab(t);
  const node = await lab.node('node-2');
  await lab.apply(web, cart);
  const server = await lab.captured(cart);
  const served: Socket[] = [];
  await server.serve((socket) => {
    served.push(socket);
    socket.on('data', (chunk) => socket.write(chunk));
  }, 8080);
  const pod = lab.pod(web);
  const session = sessionOver(t, await dialTls(pod, '10.1.0.3', lab.ca.issue(web.identity)));
  for (const name of Object.keys(CODES) as (keyof typeof CODES)[]) {
    const stream = session.request({ ':method': 'CONNECT', ':authority': '10.1.0.3:8080' });
    stream.on('error', () => undefined);
    stream.write('hello');
    await once(stream, 'data');
    stream.close(constants[`NGHTTP2_${name}`]);
    if (name === 'NO_ERROR') served.at(-1)?.end();
    await told(t, node, name, 'inbound');
  }
});
