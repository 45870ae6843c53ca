// `npm run demo`: a whole ambient mesh on this machine, shown on real programs, each claim checked. Exit code 0 only if all held.
//   --keep   leaves the mesh running (`culvert down` ends it)
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openSession } from './session.ts';
import { memory, mesh, plaintext, policies, start, waypoint, type Story } from './story.ts';

const { values: flags } = parseArgs({ options: { keep: { type: 'boolean', default: false }, 'run-dir': { type: 'string' } } });
const runDir = flags['run-dir'] ?? (flags.keep ? '/run/culvert' : mkdtempSync(path.join(tmpdir(), 'culvert-demo-')));
const session = openSession(runDir);
const story: Story = {
  session,
  runDir,
  samples: path.join('manifests', 'samples'),
  cart: { replies: 0, ids: new Set() },
};

let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupted = true;
    session.end();
  });
}

try {
  for (const chapter of [start, plaintext, mesh, policies, waypoint, memory]) {
    if (interrupted) break;
    await chapter(story);
  }
} catch (error) {
  session.check('the demo ran to its end', false, error instanceof Error ? error.message : String(error));
} finally {
  session.end();
  if (flags.keep && !interrupted) {
    session.title('Left running');
    session.note('culvert get pods; culvert exec alice -n customers -- curl http://web.shop/; culvert down');
  } else {
    await session.culvert(['down'], { silent: true });
    rmSync(runDir, { recursive: true, force: true });
  }
}

const { failed, passed } = session;
for (const claim of failed) console.log(`   did not hold: ${claim}`);
console.log(`\n${passed} checks held, ${failed.length} did not${interrupted ? ' (interrupted)' : ''}`);
process.exit(failed.length > 0 || interrupted ? 1 : 0);
