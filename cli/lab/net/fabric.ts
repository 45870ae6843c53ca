// The machine room: a bridge that joins the nodes, and the nodes themselves, each a network namespace with routes to the pods of the others.
import { FABRIC_ADDRESS, FABRIC_PREFIX, PROBE_SOURCE } from '../plan.ts';
import type { LabPlan, NodePlan } from '../plan.ts';
import { run } from '../run.ts';
import { createNetns, setSysctls } from './netns.ts';

/** `ip -batch` lines for the fabric namespace. */
export function fabricCommands(plan: LabPlan): string[] {
  return [
    'link add fabric type bridge',
    `addr add ${FABRIC_ADDRESS}/${FABRIC_PREFIX} dev fabric`,
    'link set fabric up',
    ...plan.nodes.flatMap((node) => [
      `link add ${node.port} type veth peer name eth0 netns ${node.netns}`,
      `link set ${node.port} master fabric up`,
      `route add ${node.podCidr} via ${node.address}`,
    ]),
  ];
}

/** `ip -batch` lines for one node's namespace. */
export function nodeCommands(plan: LabPlan, node: NodePlan): string[] {
  return [
    `addr add ${PROBE_SOURCE}/32 dev lo`,
    `addr add ${node.address}/${FABRIC_PREFIX} dev eth0`,
    'link set eth0 up',
    `route add default via ${FABRIC_ADDRESS}`,
    ...plan.nodes.filter((other) => other !== node).map((other) => `route add ${other.podCidr} via ${other.address}`),
  ];
}

export async function createFabric(plan: LabPlan): Promise<void> {
  await Promise.all([plan.fabricNetns, ...plan.nodes.map((node) => node.netns)].map(createNetns));
  await ipBatch(plan.fabricNetns, fabricCommands(plan));
  await setSysctls(plan.fabricNetns, { 'net.ipv4.ip_forward': '1', 'net.bridge.bridge-nf-call-iptables': '0' });
  await Promise.all(plan.nodes.map((node) => createNode(plan, node)));
}

async function createNode(plan: LabPlan, node: NodePlan): Promise<void> {
  await ipBatch(node.netns, nodeCommands(plan, node));
  await setSysctls(node.netns, {
    'net.ipv4.ip_forward': '1',
    'net.ipv4.conf.all.rp_filter': '0',
    'net.ipv4.conf.default.rp_filter': '0',
    // Answers between two pods of one node cross the bridge only; conntrack must see them to undo a service's DNAT.
    'net.bridge.bridge-nf-call-iptables': '1',
  });
}

async function ipBatch(netns: string, lines: readonly string[]): Promise<void> {
  await run(['ip', '-batch', '-'], { netns, input: `${lines.join('\n')}\n` });
}
