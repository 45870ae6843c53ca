// Odd responses of a backend, through our waypoint and through a real Envoy with the same configuration: both must hand on the same, or
// both refuse. Where we are stricter, the corpus says why (docs/decisions/0021-odd-responses.md).
import http from 'node:http';
import { createServer, type Server } from 'node:net';
import { test } from 'tap';
import { AppProtocol } from '#shared/gen/istio/workload/workload_pb.ts';
import { spiffeId } from '#shared/ids.ts';
import { BACKENDS, createReactor } from '#shared/reactor/create.ts';
import { waypointResources } from '../../../controlplane/translate/envoy/waypoint.ts';
import { aMesh, aScope, aService, aWorkload } from '../../controlplane/translate/envoy/mesh.ts';
import { ODD_RESPONSES, type OddResponse } from '../../fixtures/http1-responses.ts';
import { noEnvoy } from '../../harness/envoy.ts';
import { endTunnels, ownAddress, startWaypoint, type WaypointLab } from '../../harness/waypoint-lab.ts';

const pod = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });
const VIP = '10.96.0.1';
/** A client that waits longer, ms, got an answer without an end. */
const PATIENCE = 3000;

/** Answers a request for `/N` with the octets of the Nth response, and ends. */
async function startBackend(ip: string): Promise<Server> {
  const server = createServer((socket) => {
    let text = '';
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (!text.includes('\r\n\r\n')) return;
      const index = Number(/^\w+ \/(\d+) /u.exec(text)?.[1]);
      text = '';
      const { text: answer = '', method } = ODD_RESPONSES[index] ?? {};
      const octets = Buffer.from(answer, 'latin1');
      // Behind an upgrade the end belongs to the other protocol.
      if (method === 'websocket') socket.write(octets);
      else socket.end(octets);
    });
  });
  await new Promise<void>((resolve) => server.listen(8080, ip, resolve));
  return server;
}

/** What a client gets: `refused`, or the answer in words. An answer that is cut is none. */
async function outcomeOf(lab: WaypointLab, index: number, { method = 'GET' }: OddResponse): Promise<string> {
  const socket = await lab.connect(`${VIP}:80`);
  const upgrade = method === 'websocket';
  const headers: http.OutgoingHttpHeaders = upgrade
    ? {
        connection: 'upgrade',
        upgrade: 'websocket',
        'sec-websocket-key': 'x3JJHMbDL1EzLkh9GBhXDw==',
        'sec-websocket-version': '13',
      }
    : { connection: 'keep-alive' };
  try {
    return await new Promise<string>((resolve) => {
      const interim: number[] = [];
      const words = (status: number, body: string, trailers = ''): string =>
        [...interim.map((each) => `${each}, `), status, ` ${JSON.stringify(body)}`, trailers].join('');
      const request = http.request({
        method: upgrade ? 'GET' : method,
        path: `/${index}`,
        headers: { host: VIP, ...headers },
        createConnection: () => socket,
      });
      const timer = setTimeout(() => resolve('no end'), PATIENCE);
      const done = (outcome: string): void => {
        clearTimeout(timer);
        resolve(outcome);
      };
      request.on('information', ({ statusCode }) => void interim.push(statusCode));
      request.on('error', () => done('refused'));
      request.on('response', (response) => {
        const status = response.statusCode ?? 0;
        let body = '';
        response.setEncoding('latin1');
        response.on('data', (chunk: string) => void (body += chunk));
        response.on('error', () => done('refused'));
        response.on('close', () => done('refused'));
        response.on('end', () => {
          const trailers = response.rawTrailers.length > 0 ? ` ${response.rawTrailers.join(' ')}` : '';
          done(status === 502 || status === 503 ? 'refused' : words(status, body, `${framingOf(response)}${trailers}`));
        });
      });
      request.on('upgrade', (response, stream, first: Buffer) => {
        let body = '';
        const onData = (chunk: Buffer): void => {
          body += chunk.toString('latin1');
          if (body.length >= 3) done(`${words(response.statusCode ?? 0, body)} ${response.headers.upgrade ?? 'no upgrade'}`);
        };
        stream.on('data', onData);
        stream.on('error', () => done('refused'));
        stream.on('end', () => done('refused'));
        onData(first);
      });
      request.end(method === 'POST' ? 'a body' : undefined);
    });
  } finally {
    socket.destroy();
  }
}

/** How the waypoint framed the answer for its client. */
function framingOf({ headers }: http.IncomingMessage): string {
  const length = headers['content-length'];
  return ` ${headers['transfer-encoding'] ?? (length === undefined ? 'no body' : `length ${length}`)}`;
}

test('the same verdict as Envoy', { skip: noEnvoy, timeout: 240_000 }, async (t) => {
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const outcomes = new Map<string, string[]>();
  for (const kind of ['envoy', ...BACKENDS] as const) {
    const ip = ownAddress();
    const server = await startBackend(ip);
    t.teardown(() => server.close());
    const echo = aService({ name: 'echo', vip: VIP, ports: [{ port: 80, target: 8080, protocol: AppProtocol.HTTP11 }] });
    const mesh = aMesh({ services: [echo], workloads: [aWorkload({ name: 'echo-0', ip, service: echo })] });
    const lab = await startWaypoint(t, kind, waypointResources(mesh, aScope({ services: [echo] })));
    await endTunnels(reactor, lab.certificates, ip, pod);
    const got: string[] = [];
    for (const [index, response] of ODD_RESPONSES.entries()) got.push(await outcomeOf(lab, index, response));
    outcomes.set(kind, got);
  }
  const envoy = outcomes.get('envoy') ?? [];
  for (const kind of BACKENDS)
    for (const [index, { what, stricter, ours: other }] of ODD_RESPONSES.entries()) {
      const [ours, theirs = 'refused'] = [outcomes.get(kind)?.[index], envoy[index]];
      const [expected, why] = other ?? ['refused', stricter];
      if (why === undefined) t.equal(ours, theirs, `${kind}: ${what}`);
      else {
        t.equal(ours, expected, `${kind}: ${what}: ${why}`);
        t.notMatch(theirs, /^(?:refused|no end)$/u, `${what}: Envoy takes it`);
        t.not(theirs, expected, `${what}: there is a difference`);
      }
    }
});
