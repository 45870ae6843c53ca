import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'tap';

const FIXTURE = join(import.meta.dirname, '..', 'fixtures', 'quiet-waypoint.ts');
/** Functions, of the harness and of Node; without specimens some 75. */
const FORGOTTEN = 25;

test('code that is compiled for requests outlives a quiet time', async (t) => {
  const flags = ['--expose-gc', '--trace-deopt', '--max-semi-space-size=4'];
  const output = execFileSync(process.execPath, [...flags, FIXTURE], { encoding: 'utf8', maxBuffer: 1 << 28 });
  const after = output.slice(output.indexOf('quiet\n'));
  const forgotten = after.split('embedded weak objects cleared').length - 1;
  t.ok(forgotten <= FORGOTTEN, `code of ${forgotten} functions was thrown away`);
});
