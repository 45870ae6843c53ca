// Each fault is told of once, whoever finds it, and again when it comes back.
import { createServer } from 'node:http';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '#shared/clock.ts';
import { FaultReporter } from '../../../cli/lab/fault-reporter.ts';
import { adminSocket } from '../../../cli/lab/control-plane.ts';

t.test('faults of files and of the control plane', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-faults-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  mkdirSync(join(dir, 'controlplane'));
  const server = createServer((_request, response) => void response.end(JSON.stringify([{ line: 'a' }, { line: 'reference' }])));
  await new Promise<void>((resolve) => server.listen(adminSocket(dir), resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  const told: string[] = [];
  const more = Promise.withResolvers<void>();
  const reporter = new FaultReporter(dir, systemClock, (line) => {
    told.push(line);
    if (line === 'reference') more.resolve();
  });
  reporter.report('files', ['a', 'b']);
  reporter.report('files', ['a', 'b']);
  t.same(told, ['a', 'b']);
  reporter.report('files', ['a']);
  reporter.report('files', ['a', 'b']);
  t.same(told, ['a', 'b', 'b'], 'a fault that was mended and comes back');
  reporter.changed();
  const alive = setTimeout(() => {}, 10_000);
  await more.promise;
  clearTimeout(alive);
  t.same(told, ['a', 'b', 'b', 'reference'], 'what both find is told of once');
  reporter[Symbol.dispose]();
});
