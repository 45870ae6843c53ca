// The waypoint as a process: its command line, its threads, and an orderly end.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'tap';
import { eventually } from '../harness/waypoint-lab.ts';

async function freePorts(count: number): Promise<string[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => String((server.address() as AddressInfo).port));
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

const ENV = {
  PATH: process.env['PATH'],
  POD_NAME: 'waypoint-0',
  POD_NAMESPACE: 'shop',
  SERVICE_ACCOUNT: 'waypoint',
  INSTANCE_IP: '127.0.0.1',
  XDS_ADDRESS: 'http://127.0.0.1:1',
  MINIMUM_DRAIN_DURATION: '10ms',
};

test('a wrong command line ends it with what is wrong', async (t) => {
  for (const [args, said] of [
    [['--workers', 'many'], /--workers="many": not a number of threads/u],
    [['--wrokers', '2'], /--wrokers/u],
  ] as const) {
    const { status, stderr } = spawnSync(process.execPath, ['waypoint/main.ts', ...args], { env: ENV, encoding: 'utf8' });
    t.equal(status, 1);
    t.match(stderr, said);
  }
});

test('it serves in as many threads as the command line says, and ends in order', { timeout: 60_000 }, async (t) => {
  const [admin = '', metrics, ready, hbone] = await freePorts(4);
  const ports = { ADMIN_PORT: admin, METRICS_PORT: metrics, READY_PORT: ready, HBONE_PORT: hbone };
  const child = spawn(process.execPath, ['waypoint/main.ts', '--workers', '2'], {
    env: { ...ENV, WAYPOINT_WORKER_THREADS: '1', ...ports },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const exit = once(child, 'exit');
  t.teardown(() => child.kill('SIGKILL'));
  let dump: { dataPlane?: object } = {};
  await eventually(async () => {
    dump = (await (await fetch(`http://127.0.0.1:${admin}/config_dump`)).json()) as typeof dump;
  });
  t.match(dump.dataPlane, { workers: 2 });
  // The profile of a thread of its own.
  const profile = await fetch(`http://127.0.0.1:${admin}/debug/pprof/profile?seconds=1&worker=1`);
  t.equal(profile.status, 200);
  await profile.arrayBuffer();
  child.kill('SIGTERM');
  t.strictSame(await exit, [0, null]);
});
