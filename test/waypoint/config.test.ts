// How many threads a waypoint has, and what else its environment says.
import { availableParallelism } from 'node:os';
import { test } from 'tap';
import { loadConfig, type WaypointConfig } from '../../waypoint/config.ts';

const REQUIRED: Record<string, string> = {
  POD_NAME: 'waypoint-0',
  POD_NAMESPACE: 'shop',
  SERVICE_ACCOUNT: 'waypoint',
  INSTANCE_IP: '10.0.0.1',
};

function load(env: Record<string, string> = {}, sources?: Parameters<typeof loadConfig>[1]): WaypointConfig {
  const all = { ...REQUIRED, ...env };
  return loadConfig((name) => all[name], sources);
}

test('threads: half of the cores, or as the environment says, or as the command line says before it', async (t) => {
  const cores = availableParallelism();
  t.equal(load().workerThreads, Math.max(1, Math.floor(cores / 2)));
  t.equal(load({ WAYPOINT_WORKER_THREADS: '3' }).workerThreads, 3);
  t.equal(load({ WAYPOINT_WORKER_THREADS: '0' }).workerThreads, cores);
  t.equal(load({ WAYPOINT_WORKER_THREADS: 'main' }).workerThreads, 0);
  t.equal(load({ WAYPOINT_WORKER_THREADS: '3' }, { workers: 'main' }).workerThreads, 0);
  t.throws(() => load({ WAYPOINT_WORKER_THREADS: 'many' }), {
    code: 'invalid_config',
    message: /WAYPOINT_WORKER_THREADS="many"/u,
  });
  t.throws(() => load({}, { workers: '101%' }), { code: 'invalid_config', message: /--workers="101%"/u });
});

test('limits: connections as ever, memory four fifths of what the container may have', async (t) => {
  t.match(load(), { maxConnections: 10_000, maxMemory: 0 });
  t.equal(load({}, { memoryLimit: 1000 }).maxMemory, 800);
  t.match(load({ MAX_CONNECTIONS: '5', MAX_MEMORY: '1Mi' }), { maxConnections: 5, maxMemory: 1 << 20 });
});
