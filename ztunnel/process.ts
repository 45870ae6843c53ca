// The life of the process of a ztunnel: its threads and the rest of its code are loaded at the same time.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError } from '#shared/errors.ts';
import { keepCompiled } from '#shared/lifecycle/compile-cache.ts';
import { packageRoot } from '#shared/lifecycle/package-root.ts';
import { run } from '#shared/lifecycle/run.ts';
import { memoryLimit } from '#shared/lifecycle/memory-watch.ts';
import { giveBackMemory, keepMallocTrimmed } from '#shared/os/footprint.ts';
import { raiseOpenFileLimit } from '#shared/os/rlimit.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { istioMetadata } from '#shared/xds/node.ts';
import { parseCommand, USAGE } from './command-line.ts';
import type { Command } from './command-line.ts';
import { loadConfig } from './config.ts';
import { headersOf, MESH_FILE } from './proxy-config.ts';
import type { WorkerThreads } from '#shared/workers/threads.ts';

function version(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string };
  return `culvert ztunnel ${version}\n`;
}

/** `args`: without the program and its file; `threads`: of its data workers, of which some may be there. Ends with the process. */
export async function runZtunnel(env: NodeJS.ProcessEnv, args: readonly string[], threads: WorkerThreads): Promise<void> {
  let command: Command;
  try {
    command = parseCommand(args);
  } catch (thrown) {
    process.stderr.write(`ztunnel: ${MeshError.from(thrown).message}`);
    process.exitCode = 1;
    return;
  }
  if (command.kind !== 'proxy') {
    process.stdout.write(command.kind === 'version' ? version() : USAGE);
    return;
  }
  keepMallocTrimmed();
  const { takeover } = command;
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
      threads.prepare(config.workerThreads);
      const { buildApp } = await import('./app.ts');
      return await buildApp(config, { logging, requestStop, stopping, takeover, threads, openFiles: raiseOpenFileLimit() });
    },
    settled: keepCompiled,
    flush: () => logging.flush(),
    giveBack: giveBackMemory,
  });
}
