// The process of a ztunnel: environment in, signals, exit code.
import { giveBackMemory } from '#shared/os/footprint.ts';
import { raiseOpenFileLimit } from '#shared/os/rlimit.ts';
import { run } from '#shared/lifecycle/run.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { istioMetadata } from '#shared/xds/node.ts';
import { existsSync, readFileSync } from 'node:fs';
import { buildApp } from './app.ts';
import { loadConfig } from './config.ts';
import { headersOf, MESH_FILE } from './proxy-config.ts';

const logging = new Logging({ format: process.env['LOG_FORMAT'] === 'json' ? 'json' : 'text' });

await run({
  log: logging.scope('main'),
  async start({ requestStop, stopping }) {
    const config = loadConfig((name) => process.env[name], {
      metadata: istioMetadata(process.env),
      xdsHeaders: headersOf(process.env, 'XDS_HEADER_'),
      caHeaders: headersOf(process.env, 'CA_HEADER_'),
      mesh: existsSync(MESH_FILE) ? readFileSync(MESH_FILE, 'utf8') : undefined,
    });
    logging.filter.begin(config.logLevel);
    const takeover = process.argv.includes('--takeover');
    return await buildApp(config, { logging, requestStop, stopping, takeover, openFiles: raiseOpenFileLimit() });
  },
  flush: () => logging.flush(),
  giveBack: giveBackMemory,
});
