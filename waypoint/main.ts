// The waypoint process: environment in, exit code out.
import { MeshError } from '#shared/errors.ts';
import { run } from '#shared/lifecycle/run.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { buildApp } from './app.ts';
import { loadConfig, type WaypointConfig } from './config.ts';

function readConfig(): WaypointConfig {
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
  log: logging.scope('main'),
  start: ({ requestStop }) => buildApp(config, { logging, requestStop, accessLog: process.stdout }),
});
