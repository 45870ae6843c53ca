// `npm run bench -- policies`: what 10,000 policies in a namespace cost its connections, beside the same lab without them.
import { Command } from 'commander';
import { stringify } from 'yaml';
import { MeshError } from '#shared/errors.ts';
import { requirePrograms } from '../../cli/lab/preflight.ts';
import { runProgram } from '../../cli/lab/run.ts';
import { wholeNumber } from '../../cli/numbers.ts';
import { print } from '../../cli/output.ts';
import { stopSignal } from '../path/command.ts';
import type { PathLab } from '../path/lab.ts';
import { startPathLab } from '../path/lab.ts';
import { limitOf } from '../path/limits.ts';
import type { Sample } from '../measured.ts';
import { measureTraffic } from '../path/loads.ts';
import { pathOf, threadsOn } from '../path/paths.ts';
import type { Row } from '../path/rows.ts';
import { ztunnelOf } from '../path/subjects.ts';
import { formatRows } from '../report.ts';
import { median } from '../statistics.ts';
import { measureDecisions } from './decision.ts';

interface PoliciesOptions {
  json?: boolean;
  policies: number;
  rounds: number;
  seconds: number;
  decisions?: boolean;
}

const PROGRAMS: readonly [string, string][] = [
  ['wrk', 'wrk'],
  ['nginx', 'nginx-light'],
  ['curl', 'curl'],
];
/** us, of one decision. */
const MAX_P99 = 20;
const MIN_SHARE = 0.9;
/** ms, for 10,000 live connections. */
const MAX_PUSH = 100;
const MAX_OTHER_PUSH = 10;

export function policiesCommand(): Command {
  return new Command('policies')
    .description('Decisions and new connections with 10,000 policies in the namespace, beside none.')
    .option('--json', 'rows as JSON')
    .option('--policies <n>', 'how many', wholeNumber, 10_000)
    .option('--rounds <n>', 'interleaved rounds; medians are reported', wholeNumber, 3)
    .option('--seconds <s>', 'length of one measurement', wholeNumber, 2)
    .option('--decisions', 'only the decisions, without a lab')
    .addHelpText(
      'after',
      '\nExits 1 when a row is short of its bar. Examples:\n  npm run bench -- policies\n  npm run bench -- policies --decisions',
    )
    .action(benchPolicies);
}

async function benchPolicies(options: PoliciesOptions): Promise<void> {
  const { p99, push, otherPush } = measureDecisions(options.policies);
  const without = measureDecisions(0);
  const rows: Row[] = [
    atMost('decision p99', 'us', p99, MAX_P99, without.p99),
    atMost('push, 10,000 connections asked again', 'ms', push, MAX_PUSH, without.push),
    atMost('push of another namespace', 'ms', otherPush, MAX_OTHER_PUSH, without.otherPush),
  ];
  if (options.decisions !== true) rows.push(await connectionsRow(options));
  print(options.json === true ? JSON.stringify(rows, undefined, 2) : formatRows(rows));
  if (rows.some(({ ok }) => !ok)) process.exitCode = 1;
}

function atMost(name: string, unit: string, value: number, most: number, peerValue: number): Row {
  return { name, unit, value, peer: 'none', peerValue, bar: `<= ${most}`, ok: value <= most, limit: 'CPU: one thread decides' };
}

async function connectionsRow({ policies, rounds, seconds }: PoliciesOptions): Promise<Row> {
  const missing = await requirePrograms(PROGRAMS);
  if (missing.length > 0) throw new MeshError('missing_capability', missing.join('\n'));
  const progress = (line: string): void => void process.stderr.write(`${line}\n`);
  const signal = stopSignal();
  const ztunnel = ztunnelOf('culvert', { backend: 'native', workers: '1' });
  await using cleanup = new AsyncDisposableStack();
  progress('starting the lab without policies');
  const plain = cleanup.use(await startPathLab({ ztunnel, progress, signal }));
  progress(`starting the lab with ${policies} policies`);
  const files = { 'policies.yaml': policyObjects(policies) };
  const guarded = cleanup.use(await startPathLab({ ztunnel, files, progress, signal }));
  await requirePolicies(guarded, policies);
  const [with_, without] = [[] as number[], [] as number[]];
  let last: Sample = {};
  const measure = async (lab: PathLab): Promise<number> => {
    last = { ...(await measureTraffic(pathOf('hbone', lab), 'connections', seconds)), threads: threadsOn('hbone', 1) };
    return last['rps'] ?? 0;
  };
  await measure(plain);
  await measure(guarded);
  for (let round = 1; round <= rounds; round += 1) {
    without.push(await measure(plain));
    with_.push(await measure(guarded));
    progress(`round ${round}: ${without.at(-1)?.toFixed(0)}/s without, ${with_.at(-1)?.toFixed(0)}/s with`);
  }
  const [value, peerValue] = [median(with_) ?? 0, median(without) ?? 0];
  return {
    name: 'connections/s',
    unit: '1/s',
    value,
    peer: 'none',
    peerValue,
    bar: `>= ${MIN_SHARE} x none`,
    ok: value >= MIN_SHARE * peerValue,
    limit: limitOf('rps', last),
  };
}

/** Each refuses another caller on the port that is measured. */
function policyObjects(count: number): string {
  return Array.from({ length: count }, (_, index) =>
    stringify({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: `deny-${index}`, namespace: 'mesh' },
      spec: {
        action: 'DENY',
        rules: [
          {
            from: [{ source: { principals: [`cluster.local/ns/far/sa/other-${index}`] } }],
            to: [{ operation: { ports: ['8080'] } }],
          },
        ],
      },
    }),
  ).join('---\n');
}

/** What is measured must be measured with them: the far ztunnel's admin page has them. */
async function requirePolicies(lab: PathLab, count: number): Promise<void> {
  const script = `curl -s http://127.0.0.1:15000/config_dump | grep -c '"action": "Deny"'`;
  const { stdout } = await runProgram(['nsenter', '-t', String(lab.ztunnels[1]), '-n', 'sh', '-c', script], { timeout: 30_000 });
  if (Number(stdout) < count) throw new MeshError('internal', `the ztunnel has ${stdout.trim()} policies of ${count}`);
}
