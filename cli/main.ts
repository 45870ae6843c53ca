// `culvert`: the command line. Each command is a file in commands/; a fault is one readable message and a non-zero exit code.
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { applyCommand } from './commands/apply.ts';
import { compareCommand } from './commands/compare.ts';
import { deleteCommand } from './commands/delete.ts';
import { downCommand } from './commands/down.ts';
import { execCommand } from './commands/exec.ts';
import { getCommand } from './commands/get.ts';
import { labelCommand } from './commands/label.ts';
import { logsCommand } from './commands/logs.ts';
import { proxyStatusCommand } from './commands/proxy-status.ts';
import { upCommand } from './commands/up.ts';
import { waitCommand } from './commands/wait.ts';
import { waypointCommand } from './commands/waypoint.ts';
import { ztunnelConfigCommand } from './commands/ztunnel-config.ts';
import { ztunnelCommand } from './commands/ztunnel.ts';

const program = new Command('culvert')
  .description('An ambient service mesh: enrol pods by a label, add waypoints where L7 is wanted.')
  .version('0.1.0')
  .showHelpAfterError('(--help shows how it is used)')
  .enablePositionalOptions()
  .addHelpText(
    'after',
    `
Examples:
  culvert up manifests/samples/shop --detach --wait
  culvert label namespace shop istio.io/dataplane-mode=ambient
  culvert waypoint apply --for service --service-account catalog --namespace shop
  culvert compare memory
  culvert down`,
  );

const commands = [
  upCommand(),
  downCommand(),
  getCommand(),
  applyCommand(),
  deleteCommand(),
  labelCommand(),
  execCommand(),
  logsCommand(),
  waitCommand(),
  waypointCommand(),
  ztunnelConfigCommand(),
  proxyStatusCommand(),
  compareCommand(),
  ztunnelCommand(),
];
for (const command of commands) program.addCommand(command);

// Whoever read the output has gone (`culvert logs … | head`): end in order, as on SIGTERM, so that a lab is still taken down.
let readerGone = false;
for (const stream of [process.stdout, process.stderr])
  stream.on('error', () => {
    if (!readerGone) process.kill(process.pid, 'SIGTERM');
    readerGone = true;
  });

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`culvert: ${MeshError.from(error).message.replaceAll('\n', '\n         ')}\n`);
  process.exitCode = 1;
}
