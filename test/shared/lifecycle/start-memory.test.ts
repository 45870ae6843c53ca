import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import type { Released } from '../../fixtures/released-memory.ts';

const FIXTURE = join(import.meta.dirname, '..', '..', 'fixtures', 'released-memory.ts');

t.test(
  'after a burst garbage goes and the young generation shrinks, and compiled code stays; after the start code goes too',
  (t) => {
    const output = execFileSync(process.execPath, ['--expose-gc', '--max-semi-space-size=16', FIXTURE], { encoding: 'utf8' });
    const { before, garbage, all } = JSON.parse(output) as Record<'before' | 'garbage' | 'all', Released>;
    t.ok(garbage.young < before.young / 2, `young generation ${before.young}, then ${garbage.young} bytes`);
    t.ok(garbage.code > before.code * 0.7, `bytecode ${before.code}, then ${garbage.code} bytes`);
    t.ok(all.code < before.code / 2, `without code that does not run ${all.code} bytes`);
    t.end();
  },
);
