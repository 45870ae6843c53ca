// The node agent's process: environment, signals, exit code.
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { FolderSource } from '#shared/kube/folder-source.ts';
import { FolderWriter } from '#shared/kube/folder-writer.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import { run } from '#shared/lifecycle/run.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { startAgent } from './app.ts';
import { loadConfig } from './config.ts';
import type { AgentConfig } from './config.ts';

function readConfig(): AgentConfig {
  try {
    return loadConfig((name) => process.env[name]);
  } catch (error) {
    console.error(MeshError.from(error).message);
    process.exit(1);
  }
}

const config = readConfig();
const logging = new Logging({ level: config.logLevel, format: config.logFormat });

await run({
  log: logging.scope('cni'),
  flush: () => logging.flush(),
  start: () =>
    startAgent(config, {
      source: new FolderSource({ folders: config.objectDirs, statusFolder: config.statusDir }),
      writer: new FolderWriter({ folder: config.statusDir, statusFolder: config.statusDir, writer: 'cni' }),
      metrics: new Metrics(),
      readiness: new Readiness(),
      clock: systemClock,
      log: logging.scope('cni'),
    }),
});
