// The life of the process of a ztunnel: its threads and the rest of its code are loaded at the same time.
import { existsSync, readFileSync } from 'node:fs';
import { keepCompiled } from '#shared/lifecycle/compile-cache.ts';
import { run } from '#shared/lifecycle/run.ts';
import { memoryLimit } from '#shared/lifecycle/memory-watch.ts';
import { giveBackMemory } from '#shared/os/footprint.ts';
import { raiseOpenFileLimit } from '#shared/os/rlimit.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { istioMetadata } from '#shared/xds/node.ts';
import { loadConfig } from './config.ts';
import { headersOf, MESH_FILE } from './proxy-config.ts';
import { WorkerThreads } from '#shared/workers/threads.ts';

/** `worker`: the code of its data workers. Ends with the process. */
export async function runZtunnel(env: NodeJS.ProcessEnv, argv: readonly string[], worker: URL): Promise<void> {
  const logging = new Logging({ format: env['LOG_FORMAT'] === 'json' ? 'json' : 'text' });
  await run({
    log: logging.scope('main'),
    async start({ requestStop, stopping }) {
      const config = loadConfig((name) => env[name], {
        metadata: istioMetadata(env),
        xdsHeaders: headersOf(env, 'XDS_HEADER_'),
        caHeaders: headersOf(env, 'CA_HEADER_'),
        memoryLimit: memoryLimit(),
        mesh: existsSync(MESH_FILE) ? readFileSync(MESH_FILE, 'utf8') : undefined,
      });
      logging.filter.begin(config.logLevel);
      const threads = new WorkerThreads(worker);
      threads.prepare(config.workerThreads);
      const { buildApp } = await import('./app.ts');
      const takeover = argv.includes('--takeover');
      return await buildApp(config, { logging, requestStop, stopping, takeover, threads, openFiles: raiseOpenFileLimit() });
    },
    settled: keepCompiled,
    flush: () => logging.flush(),
    giveBack: giveBackMemory,
  });
}
