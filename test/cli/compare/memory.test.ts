import t from 'tap';
import { nodeMemory, parseSmaps, readMemory } from '../../../cli/compare/memory-reading.ts';
import { memoryReport } from '../../../cli/compare/report.ts';
import { compareSteps } from '../../../cli/compare/result.ts';
import type { ModeMemory } from '../../../cli/compare/result.ts';
import { memorySvg } from '../../../cli/compare/svg.ts';
import { servedServices, workloadObjects } from '../../../cli/compare/workload.ts';

const MB = 1_048_576;

t.test('the kernel tells shares, own pages and shared pages', async (t) => {
  const text =
    'Rss: 1 kB\nPss:   201 kB\nShared_Clean:  100 kB\nShared_Dirty:  8 kB\nPrivate_Clean:  36 kB\nPrivate_Dirty:  112 kB\n';
  t.same(parseSmaps(text), { pss: 201 * 1024, own: 148 * 1024, shared: 108 * 1024 });
  t.throws(() => parseSmaps('Pss: none'), /expected fields/u);
  const own = await readMemory(process.pid);
  t.ok(own.pss > MB && own.own > MB);
  t.match(own.program, /node/u);
});

t.test('a node holds the shared pages of a program once', async (t) => {
  const reading = (program: string, own: number, shared: number) => ({ program, own, shared, pss: 0 });
  t.equal(nodeMemory([reading('envoy', 10, 40), reading('envoy', 12, 38), reading('node', 5, 7)]), 10 + 12 + 40 + 5 + 7);
});

t.test('the application is the same in both modes but for the sidecar', async (t) => {
  const options = { pods: 5, services: 2, nodes: ['node-1', 'node-2'] };
  const ambient = workloadObjects(options).filter(({ kind }) => kind === 'Pod');
  const sidecar = workloadObjects({ ...options, sidecar: { envoy: '/envoy', folder: '/config' } }).filter(
    ({ kind }) => kind === 'Pod',
  );
  t.same(
    ambient.map(({ metadata }) => metadata.name),
    ['web-1-0', 'web-1-1', 'web-1-2', 'web-2-0', 'web-2-1'],
  );
  t.same(
    sidecar.map(({ metadata }) => metadata.name),
    ambient.map(({ metadata }) => metadata.name),
  );
  t.same(new Set(ambient.map(({ spec }) => (spec as { nodeName: string }).nodeName)), new Set(options.nodes));
  t.same(servedServices({ pods: 1, services: 3 }), ['web-1']);
});

t.test('report and picture', async (t) => {
  const mode = (component: 'ztunnel' | 'sidecar', total: number): ModeMemory => ({
    processes: [{ component, node: 'node-1', pid: 1, program: 'p', pss: total, own: total, shared: 0 }],
    pss: total,
    perNode: { 'node-1': total },
    total,
  });
  const steps = [2, 4, 8].map((pods) => ({ pods, ambient: mode('ztunnel', 100 * MB), sidecar: mode('sidecar', pods * 50 * MB) }));
  const comparison = compareSteps(1, 2, steps);
  t.equal(comparison.growth.ambient.perPod, 0);
  t.equal(comparison.growth.sidecar.perPod, 50 * MB);
  t.equal(comparison.saving.total, 0.75);
  t.equal(comparison.evenAt, 2);
  t.match(memoryReport(compareSteps(1, 2, steps.slice(0, 1))), /saving: /u);
  const report = memoryReport(comparison);
  t.match(report, /saving: 75 % of the nodes' memory/u);
  t.match(report, /Not counted:\n {2}- the applications/u);
  const svg = memorySvg(comparison);
  t.equal(svg.match(/<circle/gu)?.length, 6);
  t.match(svg, /^<svg[\s\S]*<\/svg>\n$/u);
});
