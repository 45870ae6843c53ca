// `culvert waypoint`: deploys, lists and removes waypoints. A waypoint is a Gateway; the control plane makes the rest of it.
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, Option } from 'commander';
import { stringify } from 'yaml';
import { parseDuration } from '#shared/env.ts';
import { MeshError } from '#shared/errors.ts';
import type { Gateway } from '#shared/kube/gateway-api.ts';
import { formatFieldPath } from '#shared/kube/field-path.ts';
import type { Informer } from '#shared/kube/informer.ts';
import { objectKey } from '#shared/kube/object.ts';
import { Validator } from '#shared/kube/validate.ts';
import { openCluster, runDirOption } from '../cluster.ts';
import type { Cluster } from '../cluster.ts';
import { isReady } from '../lab/endpoints.ts';
import { serviceAccount } from '../lab/pod/environment.ts';
import { outputOption, print, printList } from '../output.ts';
import type { Format } from '../output.ts';
import {
  FOR_SERVICE_ACCOUNT,
  isWaypoint,
  programmed,
  TRAFFIC_TYPES,
  USE_WAYPOINT,
  WAYPOINT_FOR,
  waypointGateway,
} from '../waypoint-gateway.ts';
import type { TrafficType } from '../waypoint-gateway.ts';

interface ApplyOptions {
  runDir: string;
  namespace: string;
  for?: TrafficType;
  serviceAccount?: string;
  enrollNamespace?: boolean;
  wait?: boolean;
  timeout: string;
}

/** Links the pods of a waypoint to its Gateway. */
const GATEWAY_NAME = 'gateway.networking.k8s.io/gateway-name';

export function waypointCommand(): Command {
  const command = new Command('waypoint').description('Deploys, lists and removes waypoints, which apply L7 policy and routing.');
  for (const part of [applyCommand(), generateCommand(), listCommand(), statusCommand(), deleteCommand()])
    command.addCommand(part);
  return command;
}

function wishOptions(command: Command): Command {
  return command
    .argument('[name]', 'name of the waypoint', 'waypoint')
    .option('-n, --namespace <namespace>', 'namespace of the waypoint', 'default')
    .addOption(new Option('--for <traffic>', 'which traffic it takes (default: service)').choices(TRAFFIC_TYPES))
    .option('--service-account <name>', 'only for what runs as this service account; no label is needed then');
}

function applyCommand(): Command {
  return wishOptions(new Command('apply'))
    .description('Deploys a waypoint for a namespace, or for one service account of it.')
    .option('--enroll-namespace', `also label the namespace with ${USE_WAYPOINT}`)
    .option('--wait', 'return when the waypoint serves')
    .option('--timeout <duration>', 'with --wait: how long', '90s')
    .addOption(runDirOption())
    .addHelpText(
      'after',
      '\nExamples:\n  culvert waypoint apply -n shop --enroll-namespace --wait\n  culvert waypoint apply catalog --for service --service-account catalog --namespace shop',
    )
    .action(async (name: string, options: ApplyOptions) => {
      const { namespace } = options;
      const cluster = await openCluster(options.runDir);
      const written = await cluster.written();
      if (!written.get('Namespace', '', namespace)) throw new MeshError('not_found', `there is no namespace ${namespace}`);
      const wish = { name, namespace, trafficType: options.for, serviceAccount: options.serviceAccount };
      await cluster.apply(checked(waypointGateway(wish)));
      print(`waypoint ${namespace}/${name} applied`);
      warnOfNobody(written, namespace, options.serviceAccount);
      if (options.enrollNamespace === true) await enrollNamespace(cluster, namespace, name);
      if (options.wait === true) await waitUntilServing(cluster, namespace, name, options.timeout);
    });
}

function generateCommand(): Command {
  return wishOptions(new Command('generate'))
    .description('Prints the Gateway that apply would write.')
    .addHelpText('after', '\nExamples:\n  culvert waypoint generate --for all -n shop > waypoint.yaml')
    .action((name: string, { namespace, for: trafficType, serviceAccount }: ApplyOptions) => {
      print(stringify(checked(waypointGateway({ name, namespace, trafficType, serviceAccount }))).trimEnd());
    });
}

interface ListOptions {
  runDir: string;
  namespace: string;
  allNamespaces?: boolean;
  output: Format;
}

function listOptions(command: Command): Command {
  return command
    .option('-n, --namespace <namespace>', 'namespace of the waypoints', 'default')
    .option('-A, --all-namespaces', 'all namespaces')
    .addOption(outputOption())
    .addOption(runDirOption());
}

function listCommand(): Command {
  return listOptions(new Command('list'))
    .description('Lists waypoints.')
    .addHelpText('after', '\nExamples:\n  culvert waypoint list -A\n  culvert waypoint list -n shop -o json')
    .action(async (options: ListOptions) => {
      const rows = await findWaypoints(await openCluster(options.runDir), options);
      printList(
        options.output,
        rows,
        [
          ...(options.allNamespaces === true ? [{ title: 'NAMESPACE', value: (row: Gateway) => row.metadata.namespace }] : []),
          { title: 'NAME', value: ({ metadata }) => metadata.name },
          { title: 'TRAFFIC TYPE', value: ({ metadata }) => metadata.labels?.[WAYPOINT_FOR] ?? 'service' },
          { title: 'SERVICE ACCOUNT', value: ({ metadata }) => metadata.annotations?.[FOR_SERVICE_ACCOUNT] ?? 'any' },
          { title: 'PROGRAMMED', value: programmed },
        ],
        { none: noWaypoints(options) },
      );
    });
}

function statusCommand(): Command {
  return listOptions(new Command('status'))
    .description('Shows what the control plane says of each waypoint; exits 1 when one does not serve.')
    .argument('[name]', 'one waypoint only')
    .addHelpText('after', '\nExamples:\n  culvert waypoint status -n shop')
    .action(async (name: string | undefined, options: ListOptions) => {
      const found = await findWaypoints(await openCluster(options.runDir), options);
      const rows = found.filter(({ metadata }) => name === undefined || metadata.name === name);
      if (name !== undefined && rows.length === 0)
        throw new MeshError('not_found', `there is no waypoint ${name} in namespace ${options.namespace}`);
      const condition = (row: Gateway): string =>
        row.status?.conditions
          ?.map(({ type, status, reason = '' }) => `${type}=${status}${reason === '' ? '' : ` (${reason})`}`)
          .join(', ') ?? '';
      printList(
        options.output,
        rows,
        [
          { title: 'NAMESPACE', value: ({ metadata }) => metadata.namespace },
          { title: 'NAME', value: ({ metadata }) => metadata.name },
          { title: 'PROGRAMMED', value: programmed },
          { title: 'ADDRESS', value: ({ status }) => status?.addresses?.map(({ value }) => value).join(',') },
          { title: 'CONDITIONS', value: condition },
        ],
        { none: noWaypoints(options) },
      );
      if (rows.some((row) => programmed(row) !== 'True')) process.exitCode = 1;
    });
}

function deleteCommand(): Command {
  return new Command('delete')
    .description('Removes waypoints; the traffic goes on without L7 policy and routing.')
    .argument('[names...]', 'names of the waypoints')
    .option('-n, --namespace <namespace>', 'namespace of the waypoints', 'default')
    .option('--all', 'all waypoints of the namespace')
    .addOption(runDirOption())
    .addHelpText('after', '\nExamples:\n  culvert waypoint delete catalog -n shop\n  culvert waypoint delete --all -n shop')
    .action(async (names: string[], options: { namespace: string; all?: boolean; runDir: string }) => {
      if ((names.length === 0) === (options.all !== true)) throw new MeshError('invalid_config', 'name waypoints, or give --all');
      const cluster = await openCluster(options.runDir);
      const found = await findWaypoints(cluster, options);
      const missing = names.filter((name) => !found.some(({ metadata }) => metadata.name === name));
      if (missing.length > 0)
        throw new MeshError('not_found', `there is no waypoint ${missing.join(', ')} in namespace ${options.namespace}`);
      for (const gateway of found.filter(({ metadata }) => options.all === true || names.includes(metadata.name))) {
        await cluster.remove(objectKey(gateway));
        print(`waypoint ${gateway.metadata.namespace}/${gateway.metadata.name} deleted`);
      }
    });
}

function noWaypoints({ namespace, allNamespaces }: ListOptions): string {
  return `no waypoints found${allNamespaces === true ? '' : ` in namespace ${namespace}`}`;
}

async function findWaypoints(
  cluster: Cluster,
  { namespace, allNamespaces }: { namespace: string; allNamespaces?: boolean },
): Promise<Gateway[]> {
  const all = (await cluster.objects()).list('Gateway', allNamespaces === true ? undefined : namespace);
  return all.filter(isWaypoint).sort((a, b) => (objectKey(a) < objectKey(b) ? -1 : 1));
}

/** The waypoint is deployed all the same: the pods may come later. */
function warnOfNobody(view: Informer, namespace: string, account: string | undefined): void {
  if (account === undefined || view.list('Pod', namespace).some((pod) => serviceAccount(pod) === account)) return;
  process.stderr.write(`culvert: no pod of namespace ${namespace} runs as service account ${account} yet\n`);
}

/** The object itself; throws with the field and the reason when the mesh would not take it. */
function checked(gateway: Gateway): Gateway {
  const validated = new Validator().validate(gateway);
  if (validated.ok) return gateway;
  const faults = validated.faults.map(({ path, reason }) => `${formatFieldPath(path)}: ${reason}`);
  throw new MeshError('invalid_config', faults.join('\n'));
}

async function enrollNamespace(cluster: Cluster, name: string, waypoint: string): Promise<void> {
  const namespace = (await cluster.written()).get('Namespace', '', name);
  if (!namespace) throw new MeshError('not_found', `there is no namespace ${name}`);
  const labels = { ...namespace.metadata.labels, [USE_WAYPOINT]: waypoint };
  await cluster.apply({ ...namespace, metadata: { ...namespace.metadata, labels } });
  print(`namespace ${name} labeled with ${USE_WAYPOINT}: ${waypoint}`);
}

/** The Gateway is programmed and its pods are ready. */
async function waitUntilServing(cluster: Cluster, namespace: string, name: string, within: string): Promise<void> {
  const timeout = parseDuration(within);
  if (timeout === undefined) throw new MeshError('invalid_config', `--timeout: "${within}" is no duration such as 90s`);
  const end = performance.now() + timeout;
  for (;;) {
    const view = await cluster.objects();
    const gateway = view.get('Gateway', namespace, name);
    const pods = view.list('Pod', namespace).filter(({ metadata }) => metadata.labels?.[GATEWAY_NAME] === name);
    if (gateway && programmed(gateway) === 'True' && pods.length > 0 && pods.every(isReady)) break;
    if (performance.now() > end) {
      const states = pods.map((pod) => `${pod.metadata.name}: ${pod.status?.message ?? pod.status?.phase ?? 'not started'}`);
      throw new MeshError(
        'internal',
        `waypoint ${namespace}/${name} does not serve after ${within}: Programmed is ${gateway ? programmed(gateway) : 'Unknown'}, pods: ${states.join(', ') || 'none'}`,
      );
    }
    await sleep(150);
  }
  print(`waypoint ${namespace}/${name} is ready`);
}
