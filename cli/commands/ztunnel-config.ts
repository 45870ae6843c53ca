// `culvert ztunnel-config`: what the ztunnels know and carry, read from their admin servers.
import { Command } from 'commander';
import { MeshError } from '#shared/errors.ts';
import { openCluster, runDirOption } from '../cluster.ts';
import { explainCommand } from './explain.ts';
import { adminGet } from '../node-admin.ts';
import { outputOption, printList } from '../output.ts';
import type { Column, Format } from '../output.ts';
import { addressesOf, shownWaypoint } from '../ztunnel-dump.ts';
import type { ConfigDump, DumpCertificate, DumpConnection, DumpPolicy, DumpService, DumpWorkload } from '../ztunnel-dump.ts';

interface DumpOptions {
  runDir: string;
  node?: string;
  output: Format;
}

export function ztunnelConfigCommand(): Command {
  const command = new Command('ztunnel-config')
    .description('Shows what the ztunnels know: workloads, services, policies, certificates, connections.')
    .addHelpText(
      'after',
      '\nExamples:\n  culvert ztunnel-config workloads\n  culvert ztunnel-config connections --node node-1 -o json\n  culvert ztunnel-config explain shop/web cart.shop:80',
    );
  return command
    .addCommand(
      part(
        'workloads',
        'workload',
        'Workloads that a ztunnel knows; the same on every node unless one lags behind.',
        workloads,
        workloadColumns,
      ),
    )
    .addCommand(
      part('services', 'service', 'Services that a ztunnel knows.', ({ services = [] }) => sortByName(services), serviceColumns),
    )
    .addCommand(
      part(
        'policies',
        'policy',
        'L4 authorization policies that a ztunnel enforces.',
        ({ policies = [] }) => sortByName(policies),
        policyColumns,
      ),
    )
    .addCommand(
      part(
        'certificates',
        'certificate',
        'Certificates that a ztunnel holds for the pods of its node.',
        certificates,
        certificateColumns,
      ),
    )
    .addCommand(
      part('connections', 'connection', 'Connections that a ztunnel carries at this moment.', connections, connectionColumns),
    )
    .addCommand(explainCommand());
}

/** Every row knows which node's ztunnel it came from. */
type Of<T> = T & { ztunnelNode: string };

function part<T extends object>(
  name: string,
  alias: string,
  description: string,
  rows: (dump: ConfigDump) => T[],
  columns: readonly Column<T>[],
): Command {
  return new Command(name)
    .alias(alias)
    .description(description)
    .option('--node <node>', 'the ztunnel of this node only (default: all)')
    .addOption(outputOption())
    .addOption(runDirOption())
    .addHelpText('after', `\nExamples:\n  culvert ztunnel-config ${name}\n  culvert ztunnel-config ${name} --node node-1 -o json`)
    .action(async (options: DumpOptions) => {
      const { lab } = await openCluster(options.runDir);
      const nodes = lab.nodes.filter((node) => options.node === undefined || node.name === options.node);
      if (nodes.length === 0) throw new MeshError('not_found', `there is no node ${options.node ?? ''}`);
      const found = await Promise.all(
        nodes.map(async (node) => {
          const dump = JSON.parse(await adminGet(node.netns, '/config_dump')) as ConfigDump;
          return rows(dump).map((row): Of<T> => Object.assign({ ztunnelNode: node.name }, row));
        }),
      );
      printList<Of<T>>(options.output, found.flat(), [{ title: 'ZTUNNEL', value: (row) => row.ztunnelNode }, ...columns], {
        none: `no ${name}`,
      });
    });
}

function workloads({ workloads: all = [] }: ConfigDump): DumpWorkload[] {
  return sortByName(all);
}

function certificates({ certificates: all = [] }: ConfigDump): DumpCertificate[] {
  return all.toSorted((a, b) => (a.identity < b.identity ? -1 : 1));
}

interface ShownConnection extends DumpConnection {
  workload: string;
  direction: 'inbound' | 'outbound';
}

function connections({ workloadState = {} }: ConfigDump): ShownConnection[] {
  return Object.values(workloadState).flatMap(({ info, connections: held }) => {
    const workload = info ? `${info.namespace}/${info.name}` : '';
    const shown = (direction: ShownConnection['direction'], list: DumpConnection[] = []): ShownConnection[] =>
      list.map((connection) => ({ ...connection, workload, direction }));
    return [...shown('inbound', held?.inbound), ...shown('outbound', held?.outbound)];
  });
}

const workloadColumns: Column<DumpWorkload>[] = [
  { title: 'NAMESPACE', value: (row) => row.namespace },
  { title: 'POD NAME', value: (row) => row.name },
  { title: 'ADDRESS', value: (row) => row.workloadIps?.join(',') },
  { title: 'NODE', value: (row) => row.node },
  { title: 'WAYPOINT', value: (row) => shownWaypoint(row.waypoint) },
  { title: 'PROTOCOL', value: (row) => row.protocol ?? 'TCP' },
  { title: 'SERVICE ACCOUNT', value: (row) => row.serviceAccount, wide: true },
];

const serviceColumns: Column<DumpService>[] = [
  { title: 'NAMESPACE', value: (row) => row.namespace },
  { title: 'SERVICE NAME', value: (row) => row.name },
  { title: 'SERVICE VIP', value: addressesOf },
  { title: 'WAYPOINT', value: (row) => shownWaypoint(row.waypoint) },
  { title: 'ENDPOINTS', value: (row) => endpointCount(row) },
];

const policyColumns: Column<DumpPolicy>[] = [
  { title: 'NAMESPACE', value: (row) => row.namespace },
  { title: 'POLICY NAME', value: (row) => row.name },
  { title: 'ACTION', value: (row) => row.action },
  { title: 'SCOPE', value: (row) => row.scope },
];

const certificateColumns: Column<DumpCertificate>[] = [
  { title: 'CERTIFICATE NAME', value: (row) => row.identity },
  { title: 'STATUS', value: (row) => row.state },
  { title: 'SERIAL NUMBER', value: (row) => row.certChain?.[0]?.serialNumber },
  { title: 'NOT BEFORE', value: (row) => row.certChain?.[0]?.validFrom },
  { title: 'NOT AFTER', value: (row) => row.certChain?.[0]?.expirationTime },
];

const connectionColumns: Column<ShownConnection>[] = [
  { title: 'WORKLOAD', value: (row) => row.workload },
  { title: 'DIRECTION', value: (row) => row.direction },
  { title: 'LOCAL', value: (row) => row.src },
  { title: 'REMOTE', value: (row) => row.actualDst },
  { title: 'REMOTE TARGET', value: (row) => row.originalDst },
  { title: 'PROTOCOL', value: (row) => row.protocol },
];

function endpointCount({ endpoints = {} }: DumpService): string {
  const all = Object.values(endpoints);
  return `${all.filter(({ status = 'Healthy' }) => status === 'Healthy').length}/${all.length}`;
}

function sortByName<T extends { namespace: string; name: string }>(rows: readonly T[]): T[] {
  return rows.toSorted((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1));
}
