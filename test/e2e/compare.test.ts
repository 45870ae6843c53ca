// `culvert compare memory`: real sidecars and real ztunnels, traffic through both, and nothing left behind.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { MemoryComparison } from '../../cli/compare/result.ts';
import { noEnvoy } from '../harness/envoy.ts';
import { ROOT } from '../harness/lab.ts';

t.test('the same pods in both modes', { skip: noEnvoy, timeout: 110_000 }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-e2e-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const svg = join(dir, 'memory.svg');
  const { status, stdout, stderr } = spawnSync(
    join(ROOT, 'cli', 'culvert'),
    ['compare', 'memory', '--pods', '4', '--services', '2', '--nodes', '1', '--svg', svg, '-o', 'json'],
    { encoding: 'utf8', timeout: 100_000, env: { ...process.env, TMPDIR: dir } },
  );
  t.equal(status, 0, stderr);
  const { steps, saving, excluded } = JSON.parse(stdout) as MemoryComparison;
  t.same(
    steps.map(({ pods }) => pods),
    [1, 2, 4],
  );
  for (const { pods, ambient, sidecar } of steps) {
    t.same(ambient.processes.map(({ component }) => component).sort(), ['cni-agent', 'ztunnel']);
    t.equal(sidecar.processes.length, pods, 'a sidecar in each pod');
    for (const { program, pss } of sidecar.processes) {
      t.match(program, /^envoy/u);
      t.ok(pss > 5_000_000 && pss < 500_000_000);
    }
  }
  const [first, last] = [steps[0], steps.at(-1)];
  t.ok(first && last && last.sidecar.total > first.sidecar.total, 'sidecars grow with the pods');
  t.ok(Number.isFinite(saving.total) && Number.isFinite(saving.pss));
  t.ok(excluded.length >= 4);
  t.match(readFileSync(svg, 'utf8'), '</svg>');
  const labs = readdirSync(dir).filter((name) => name.startsWith('culvert-compare-'));
  t.same(labs, [], 'the labs are gone');
});
