// A comparison for people: the table of the largest step, the growth as a chart of bars, and what was left out.
import { formatTable } from '../output.ts';
import type { Growth, MemoryComparison, MemoryStep, ModeMemory, ProxyMemory } from './result.ts';

/** Cells of the longest bar. */
const BAR = 48;

export function memoryReport(comparison: MemoryComparison): string {
  const { steps, growth, nodes, services } = comparison;
  const last = steps.at(-1);
  if (!last) return 'nothing was measured';
  return [
    `${last.pods} pods of ${services} services on ${nodes} nodes`,
    '',
    formatTable(
      (['ambient', 'sidecar'] as const).flatMap((mode) => rowsOf(mode, last[mode])),
      [
        { title: 'MODE', value: (row) => row.mode },
        { title: 'PROCESS', value: (row) => row.component },
        { title: 'NODE', value: (row) => row.node },
        { title: 'COUNT', value: (row) => row.count },
        { title: 'PSS EACH', value: (row) => megabytes(row.pss / row.count) },
        { title: 'OWN EACH', value: (row) => megabytes(row.own / row.count) },
        { title: 'SHARED EACH', value: (row) => megabytes(row.shared / row.count) },
        { title: 'PSS', value: (row) => megabytes(row.pss) },
      ],
    ),
    '',
    formatTable(['ambient', 'sidecar'] as const, [
      { title: 'MODE', value: (mode) => mode },
      { title: 'PSS TOTAL', value: (mode) => megabytes(last[mode].pss) },
      { title: 'NODES TOTAL', value: (mode) => megabytes(last[mode].total) },
      { title: 'PER NODE', value: (mode) => megabytes(last[mode].total / nodes) },
      { title: 'PER POD', value: (mode) => megabytes(last[mode].total / last.pods) },
      { title: 'EACH MORE POD', value: (mode) => megabytes(growth[mode].perPod) },
    ]),
    '',
    savingLine(comparison),
    projectionLine(comparison),
    '',
    'growth by pods (nodes total)',
    ...chart(steps),
    '',
    'PSS counts a page that n processes map as 1/n for each; on this machine all nodes share one copy of a program. NODES TOTAL counts',
    'what a node of its own would hold: the own pages of its processes, and shared pages once per program.',
    'Not counted:',
    ...comparison.excluded.map((line) => `  - ${line}`),
  ].join('\n');
}

function savingLine({ saving, evenAt }: MemoryComparison): string {
  const percent = (share: number): string => `${Math.abs(share * 100).toFixed(0)} %`;
  const by = (share: number): string => `${percent(share)} ${share < 0 ? 'more' : 'less'}`;
  const even = evenAt === undefined ? '' : `; it takes less from about ${evenAt} pods per node on`;
  return saving.total < 0
    ? `saving: none with so few pods: ambient takes ${by(saving.total)} on the nodes, ${by(saving.pss)} by PSS${even}`
    : `saving: ${percent(saving.total)} of the nodes' memory (by PSS ambient takes ${by(saving.pss)})${even}`;
}

/** Pods on a busy node. */
const BUSY = 50;

function projectionLine({ growth, nodes }: MemoryComparison): string {
  const at = ({ base, perPod }: Growth): string => megabytes(base / nodes + perPod * BUSY);
  return `projected by this growth, a node with ${BUSY} pods: ambient ${at(growth.ambient)}, sidecar ${at(growth.sidecar)}`;
}

interface Row {
  mode: string;
  component: string;
  node: string;
  count: number;
  pss: number;
  own: number;
  shared: number;
}

/** Processes of one kind on one node in one line. */
function rowsOf(mode: string, { processes }: ModeMemory): Row[] {
  const groups = new Map<string, ProxyMemory[]>();
  for (const process of processes) {
    const key = `${process.node} ${process.component}`;
    groups.set(key, [...(groups.get(key) ?? []), process]);
  }
  const sum = (list: readonly ProxyMemory[], field: 'pss' | 'own' | 'shared'): number =>
    list.reduce((total, one) => total + one[field], 0);
  return [...groups.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([, list]) => {
      const [first] = list;
      if (!first) return [];
      const { component, node } = first;
      return [
        { mode, component, node, count: list.length, pss: sum(list, 'pss'), own: sum(list, 'own'), shared: sum(list, 'shared') },
      ];
    });
}

function chart(steps: readonly MemoryStep[]): string[] {
  const most = Math.max(...steps.flatMap(({ ambient, sidecar }) => [ambient.total, sidecar.total]));
  const bar = (bytes: number): string => '█'.repeat(Math.max(1, Math.round((bytes / most) * BAR)));
  return steps.flatMap(({ pods, ambient, sidecar }) => [
    `${String(pods).padStart(4)} pods  ambient ${bar(ambient.total)} ${megabytes(ambient.total)}`,
    `${' '.repeat(9)}  sidecar ${bar(sidecar.total)} ${megabytes(sidecar.total)}`,
  ]);
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1_048_576).toFixed(1)} MiB`;
}
