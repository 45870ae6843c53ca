// A real Envoy with a configuration written as JSON, for tests that need one listener and little else.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { HostPort } from '#shared/address.ts';

const binary = path.resolve(import.meta.dirname, '..', '..', '.envoy', 'bin', 'envoy');
export const ENVOY = 'type.googleapis.com/envoy.';

export interface JsonEnvoy extends AsyncDisposable {
  /** Where it listens. */
  readonly address: HostPort;
  /** What Envoy logged so far. */
  readonly log: () => string;
}

/** Where an Envoy runs. */
export interface EnvoyPlace {
  /** A network namespace by name; default this process's own. */
  readonly netns: string;
  readonly address: HostPort;
  /** Whether it listens there now. */
  answers(): Promise<boolean>;
}

/** Runs `configure(address)` and waits until it listens there, by default on a port of loopback; fails after ten seconds with what Envoy said. */
export async function jsonEnvoy(configure: (listen: HostPort) => object, place?: EnvoyPlace): Promise<JsonEnvoy> {
  const folder = mkdtempSync(path.join(tmpdir(), 'culvert-envoy-'));
  const address = place?.address ?? { ip: '127.0.0.1', port: await freePort() };
  const file = path.join(folder, 'envoy.json');
  writeFileSync(file, JSON.stringify(configure(address)));
  const args = ['-c', file, '-l', 'warning', '--concurrency', '1', '--use-dynamic-base-id', '--drain-strategy', 'immediate'];
  const [program = binary, ...before] = place ? ['ip', 'netns', 'exec', place.netns, binary] : [binary];
  const child = spawn(program, [...before, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => void (log += chunk.toString()));
  const exited = once(child, 'exit');
  const dispose = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    rmSync(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + 10_000;
  const ready = (): Promise<boolean> => place?.answers() ?? answers(address);
  while (!(await ready())) {
    if (Date.now() < deadline && child.exitCode === null) continue;
    await dispose();
    throw new Error(`Envoy does not listen:\n${log}`);
  }
  return { address, log: () => log, [Symbol.asyncDispose]: dispose };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function answers(address: HostPort): Promise<boolean> {
  const socket = connect(address.port, address.ip);
  const connected = await new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
  });
  socket.destroy();
  if (!connected) await new Promise((resolve) => setTimeout(resolve, 50));
  return connected;
}

export function socketAddress({ ip, port }: HostPort): object {
  return { socket_address: { address: ip, port_value: port } };
}

/** An extension by its type, `filters.http.router.v3.Router` for instance. */
export function typed(name: string, type: string, fields: object): object {
  return { name, typed_config: { '@type': `${ENVOY}extensions.${type}`, ...fields } };
}
