// The control plane's process: environment, signals, exit code.
import { run } from '#shared/lifecycle/run.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { buildApp } from './app.ts';
import { loadConfig } from './config.ts';

const env = (name: string): string | undefined => process.env[name];
const logging = new Logging({ format: env('LOG_FORMAT') === 'json' ? 'json' : 'text', level: env('LOG_LEVEL') ?? 'info' });
const log = logging.scope('controlplane');

await run({ log, start: () => buildApp(loadConfig(env), log), flush: () => logging.flush() });
