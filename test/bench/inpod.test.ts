// The programs that the benchmark runs in pods, here in our own network, between each other.
import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { join, resolve } from 'node:path';
import t from 'tap';
import { startInPod } from '../../bench/path/inpod/start.ts';
import type { InPod } from '../../bench/path/inpod/start.ts';

t.setTimeout(30_000);
type Tap = Pick<typeof t, 'teardown'>;

const folder = resolve(import.meta.dirname, '..', '..', 'bench', 'path', 'inpod');

async function start(t: Tap, program: string, ...args: string[]): Promise<InPod> {
  const running = await startInPod(process.pid, join(folder, program), args);
  t.teardown(() => running[Symbol.asyncDispose]());
  return running;
}

async function listening(t: Tap, server: Server): Promise<string> {
  await new Promise<void>((listens) => server.listen(0, '127.0.0.1', listens));
  t.teardown(() => server.close());
  return String((server.address() as AddressInfo).port);
}

/** A port that nothing listens on. */
async function freePort(): Promise<string> {
  const server = createTcpServer();
  await new Promise<void>((listens) => server.listen(0, '127.0.0.1', listens));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return String(port);
}

t.test('writers to a server that never reads are blocked, and say what was taken', async (t) => {
  const port = await freePort();
  await start(t, 'silent-server.ts', port);
  const writers = await start(t, 'stalled-writers.ts', '127.0.0.1', port, '3');
  writers.signal('SIGUSR2');
  const taken = Number(await writers.line());
  t.ok(taken > 3 * 64 * 1024, `${taken} bytes`);
});

t.test('idle connections are opened in steps', async (t) => {
  const port = await freePort();
  await start(t, 'silent-server.ts', port);
  const clients = await start(t, 'idle-connections.ts', '127.0.0.1', port, '5', '20');
  clients.signal('SIGUSR2');
  t.equal(await clients.line(), '5');
  clients.signal('SIGUSR2');
  t.equal(await clients.line(), '25');
});

t.test('probes tell the slowest answer, and which had none', async (t) => {
  let slow = false;
  const server = createServer((_request, response) => {
    setTimeout(() => response.end('hello'), slow ? 60 : 0);
    slow = false;
  });
  const port = await listening(t, server);
  const probes = await start(t, 'probes.ts', '127.0.0.1', port, '2');
  slow = true;
  await new Promise((passed) => setTimeout(passed, 300));
  probes.signal('SIGTERM');
  const report = JSON.parse(await probes.line()) as Record<string, number>;
  t.equal(report['failures'], 0);
  t.ok((report['requests'] ?? 0) > 4, `${report['requests']} requests`);
  t.ok(Math.max(report['worstKept'] ?? 0, report['worstNew'] ?? 0) >= 55, JSON.stringify(report));
});

t.test('a program that does not start is named', async (t) => {
  const starting = startInPod(process.pid, join(folder, 'stalled-writers.ts'), ['127.0.0.1', await freePort(), '1']);
  await t.rejects(starting, /stalled-writers\.ts 127\.0\.0\.1 \d+ 1 ended/u);
});
