// `npm run bench`: environment in, exit code out. Exits 1 when a row is short of its bar or a measurement failed.
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { enrolCommand } from './enrol/command.ts';
import { pathCommand } from './path/command.ts';
import { policiesCommand } from './policies/command.ts';
import { stateCommand } from './state/command.ts';
import { restartCommand } from './restart/command.ts';

try {
  await new Command('bench')
    .description('How fast Culvert is, side by side with its peers on this machine.')
    .addCommand(pathCommand())
    .addCommand(policiesCommand())
    .addCommand(stateCommand())
    .addCommand(enrolCommand())
    .addCommand(restartCommand())
    .parseAsync();
} catch (error) {
  process.stderr.write(`bench: ${MeshError.from(error).message}\n`);
  process.exitCode = 1;
}
