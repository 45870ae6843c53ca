// The waypoint process: environment and command line in, exit code out. `--workers N|N%|main`: threads that serve.
import { extname } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { memoryLimit } from '#shared/lifecycle/memory-watch.ts';
import { run } from '#shared/lifecycle/run.ts';
import { keepGarbageYoung } from '#shared/lifecycle/young-garbage.ts';
import { giveBackMemory, keepMallocTrimmed } from '#shared/os/footprint.ts';
import { raiseOpenFileLimit } from '#shared/os/rlimit.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { writeLines } from '#shared/telemetry/stdout-sink.ts';
import { WorkerThreads } from '#shared/workers/threads.ts';
import { buildApp } from './app.ts';
import { loadConfig, type WaypointConfig } from './config.ts';
import { LogLines } from './telemetry/log-lines.ts';

const STDOUT = 1;
/** Beside this file, in the source as in a bundle. */
const WORKER = new URL(`worker${extname(import.meta.filename)}`, import.meta.url);

function readConfig(): WaypointConfig {
  try {
    const { values } = parseArgs({ options: { workers: { type: 'string' } } });
    return loadConfig((name) => process.env[name], { workers: values.workers, memoryLimit: memoryLimit() });
  } catch (error) {
    console.error(MeshError.from(error).message);
    process.exit(1);
  }
}

// For workers too: it holds for threads that are made later.
keepGarbageYoung();
keepMallocTrimmed();
const config = readConfig();
const threads = new WorkerThreads(WORKER);
threads.prepare(config.workerThreads);
const logging = new Logging({ level: config.logLevel, format: config.logFormat });
const accessLog = new LogLines(systemClock, (lines) => writeLines(STDOUT, lines));
await run({
  log: logging.scope('main'),
  start: ({ requestStop }) => buildApp(config, { logging, requestStop, accessLog, threads, openFiles: raiseOpenFileLimit() }),
  flush: () => {
    accessLog.flush();
    logging.flush();
  },
  giveBack: giveBackMemory,
});
