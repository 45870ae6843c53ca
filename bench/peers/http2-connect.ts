// A pair of proxies as one would write them on node:http2 alone: what ours are compared with. No policy, no metrics, no log.
// `http2-connect.ts PEM exit PORT TARGET-PORT` ends tunnels on PORT and dials 127.0.0.1:TARGET-PORT; `PEM entry PORT EXIT-IP EXIT-PORT`
// takes TCP on PORT and opens a CONNECT stream for each connection over one mutual TLS session. PEM is a file with the key and the
// certificate of both ends. Both print `ready`.
import { readFileSync } from 'node:fs';
import { connect as connectHttp2, constants, createSecureServer } from 'node:http2';
import type { ClientHttp2Session, ServerHttp2Stream } from 'node:http2';
import net from 'node:net';
import { pipeline } from 'node:stream';

const [file = '', role, port = '0', first = '', second = ''] = process.argv.slice(2);
const pem = readFileSync(file, 'utf8');
const tls = { key: pem, cert: pem, ca: pem, minVersion: 'TLSv1.3' as const };
const settings = { initialWindowSize: 4 << 20, maxConcurrentStreams: 1000 };
const WINDOW = 16 << 20;
const ignore = (): void => {};

if (role === 'exit') runExit(Number(port), Number(first));
else runEntry(Number(port), first, Number(second));

function runExit(listen: number, target: number): void {
  const server = createSecureServer({ ...tls, requestCert: true, rejectUnauthorized: true, settings });
  server.on('session', (session) => session.setLocalWindowSize(WINDOW));
  server.on('sessionError', ignore);
  server.on('stream', (stream: ServerHttp2Stream) => {
    const upstream = net.connect({ host: '127.0.0.1', port: target, noDelay: true, allowHalfOpen: true });
    upstream.once('connect', () => {
      stream.respond({ [constants.HTTP2_HEADER_STATUS]: 200 });
      pipeline(stream, upstream, ignore);
      pipeline(upstream, stream, ignore);
    });
    upstream.on('error', () => stream.close(constants.NGHTTP2_CONNECT_ERROR));
    stream.on('error', ignore);
  });
  server.listen(listen, () => process.stdout.write('ready\n'));
}

function runEntry(listen: number, ip: string, exit: number): void {
  let session: ClientHttp2Session | undefined;
  const tunnel = (): ClientHttp2Session => {
    if (session && !session.closed && !session.destroyed) return session;
    session = connectHttp2(`https://${ip}:${exit}`, { ...tls, settings, checkServerIdentity: () => undefined });
    session.on('error', ignore);
    session.once('connect', (opened) => opened.setLocalWindowSize(WINDOW));
    return session;
  };
  net
    .createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
      const stream = tunnel().request({ ':method': 'CONNECT', ':authority': `${ip}:80` }, { endStream: false });
      pipeline(socket, stream, ignore);
      pipeline(stream, socket, ignore);
    })
    .listen(listen, '127.0.0.1', () => process.stdout.write('ready\n'));
}
