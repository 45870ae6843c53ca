// The waypoint process: environment in, exit code out.
import { MeshError } from '#shared/errors.ts';
import { run } from '#shared/lifecycle/run.ts';
import { keepGarbageYoung } from '#shared/lifecycle/young-garbage.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { systemClock } from '#shared/clock.ts';
import { writeAll } from '#shared/telemetry/stdout-sink.ts';
import { LogLines } from './telemetry/log-lines.ts';
import { buildApp } from './app.ts';
import { loadConfig, type WaypointConfig } from './config.ts';

const STDOUT = 1;

function readConfig(): WaypointConfig {
  try {
    return loadConfig((name) => process.env[name]);
  } catch (error) {
    console.error(MeshError.from(error).message);
    process.exit(1);
  }
}

keepGarbageYoung();
const config = readConfig();
const logging = new Logging({ level: config.logLevel, format: config.logFormat });
const accessLog = new LogLines(systemClock, (lines) => writeAll(STDOUT, lines));
await run({
  log: logging.scope('main'),
  start: ({ requestStop }) => buildApp(config, { logging, requestStop, accessLog }),
  flush: () => {
    accessLog.flush();
    logging.flush();
  },
});
