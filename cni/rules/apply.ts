// Puts the rules into a network namespace and takes them out again. Every call may be repeated; each nft call is one transaction,
// so a pod has the whole set or none of it.
import { MeshError } from '#shared/errors.ts';
import { execInNetns } from './exec.ts';
import type { Chain, PodRules } from './pod.ts';
import { captureRules, idleRules, POD_TABLE, podChains, podRules, REMOVE_POD_RULES } from './pod.ts';
import { addRoutes, removeRoutes } from './routes.ts';
import type { Family } from './routes.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';

/**
 * Sockets that the application accepts get the mark of the packet that opened them. So what it sends is routed by its mark from the start; without it
 * `mark_out` marks each packet, and the kernel looks up a route for it a second time (decision 0004).
 */
export const MARKS_ARE_INHERITED = 'ipv4/tcp_fwmark_accept';
/** The same as 1 to the kernel. It says that the setting is ours to take back: a pod that had set it before keeps it. */
const SET_BY_US = '2';

/** Redirects the pod behind the namespace descriptor, replacing rules of an earlier run, and checks that the kernel took them. */
export async function applyPodRules(netns: number, options: PodRules): Promise<void> {
  // Routes first: with them the marks that the rules set mean something from the first packet on.
  await addPodRoutes(netns, options);
  await nft(netns, podRules(options));
  await verifyPodRules(netns, options);
}

/** All of applyPodRules() that captures nothing, and takes longer than the rest: hooks are registered, and the kernel waits for a grace period. */
export async function preparePod(netns: number, options: PodRules): Promise<void> {
  await allOf(addPodRoutes(netns, options), nft(netns, idleRules(options)));
}

/** The rest, for a pod that was prepared with these options. */
export async function capturePod(netns: number, options: PodRules): Promise<void> {
  await nft(netns, captureRules(options));
  await verifyPodRules(netns, options);
}

/** Ends the redirection of new connections; those that pass through the ztunnel go on, until removePodRules(). */
export async function leavePodRules(netns: number, options: PodRules): Promise<void> {
  await nft(netns, idleRules(options));
}

/** Takes away what is left: connections that pass through the ztunnel end, since the kernel stops translating their addresses. */
export async function removePodRules(netns: number): Promise<void> {
  await nft(netns, REMOVE_POD_RULES);
  if (readSysctl(netns, MARKS_ARE_INHERITED) === SET_BY_US) writeSysctl(netns, MARKS_ARE_INHERITED, '0');
  for (const family of families(netns, true))
    await ipBatch(netns, family, removeRoutes(family), 'No such file or directory', 'No such process', 'table does not exist');
}

/** Throws when the table is missing or a chain does not hold as many rules as it should. */
export async function verifyPodRules(netns: number, options: PodRules): Promise<void> {
  await verifyTable(netns, POD_TABLE, podChains(options));
}

/** One transaction of nft in the namespace, or in this process's own when undefined. */
export async function nft(netns: number | undefined, text: string): Promise<void> {
  const result = await execInNetns(netns, ['nft', '-f', '-'], text);
  if (result.code !== 0) throw nftError(result.stderr, text);
}

/** Has nft and the kernel look at the text without keeping any of it. */
export async function checkNft(netns: number | undefined, text: string): Promise<void> {
  const result = await execInNetns(netns, ['nft', '-c', '-f', '-'], text);
  if (result.code !== 0) throw nftError(result.stderr, text);
}

export async function verifyTable(netns: number | undefined, table: string, chains: readonly Chain[]): Promise<void> {
  const result = await execInNetns(netns, ['nft', 'list', 'table', ...table.split(' ')]);
  if (result.code !== 0) throw new MeshError('internal', `the rules are not there: table ${table}: ${firstLine(result.stderr)}`);
  const found = countRules(result.stdout);
  for (const chain of chains) {
    const count = found.get(chain.name) ?? 0;
    if (count !== chain.rules.length)
      throw new MeshError('internal', `table ${table}, chain ${chain.name}: ${count} rules, should be ${chain.rules.length}`);
  }
}

/** Rules by chain in the output of `nft list table`. */
function countRules(listing: string): Map<string, number> {
  const counts = new Map<string, number>();
  let chain: string | undefined;
  for (const line of listing.split('\n')) {
    const text = line.trim();
    const opened = /^chain (\S+) \{$/u.exec(text);
    if (opened) chain = opened[1];
    else if (text === '}') chain = undefined;
    else if (chain !== undefined && text !== '' && !text.startsWith('type ')) counts.set(chain, (counts.get(chain) ?? 0) + 1);
  }
  return counts;
}

function nftError(stderr: string, text: string): MeshError {
  const detail = firstLine(stderr);
  if (/Operation not permitted/u.test(stderr))
    return new MeshError('missing_capability', `nft may not change the rules: ${detail}; the agent needs CAP_NET_ADMIN`);
  if (/syntax error/u.test(stderr)) return new MeshError('internal', `nft does not understand the rules: ${detail}\n${text}`);
  if (/Could not process rule|Unable to initialize|not supported/u.test(stderr))
    return new MeshError(
      'missing_capability',
      `the kernel refused the rules: ${detail}; needed are nf_tables, nft_chain_nat, nft_redir, nft_ct, nft_socket, nft_reject_inet and nf_conntrack (CONFIG_NF_TABLES_INET)`,
    );
  return new MeshError('internal', `nft failed: ${detail}`);
}

/** Waits for all, also when one fails: none may use the descriptor after its owner has closed it. */
async function allOf(...tasks: Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(tasks)) if (outcome.status === 'rejected') throw outcome.reason;
}

async function addPodRoutes(netns: number, { ipv6 }: PodRules): Promise<void> {
  if (readSysctl(netns, MARKS_ARE_INHERITED) === '0') writeSysctl(netns, MARKS_ARE_INHERITED, SET_BY_US);
  await allOf(...families(netns, ipv6).map((family) => ipBatch(netns, family, addRoutes(family), 'File exists')));
}

/** IPv6 only where the namespace has it. */
function families(netns: number, ipv6: boolean): Family[] {
  return ipv6 && readSysctl(netns, 'ipv6/conf/lo/disable_ipv6') === '0' ? [4, 6] : [4];
}

/** Runs every line; failures that say `tolerated` mean that the line's effect is there already. */
async function ipBatch(netns: number, family: Family, batch: string, ...tolerated: string[]): Promise<void> {
  const result = await execInNetns(netns, ['ip', `-${family}`, '-force', '-batch', '-'], batch);
  if (result.code === 0) return;
  const faults = result.stderr
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('Command failed') && !tolerated.some((text) => line.includes(text)));
  if (faults.length === 0) return;
  throw new MeshError(
    /Operation not permitted/u.test(result.stderr) ? 'missing_capability' : 'internal',
    `cannot set IPv${family} policy routing in the pod: ${faults.join('; ')}`,
  );
}

function firstLine(text: string): string {
  return (
    text
      .split('\n')
      .find((line) => line.trim() !== '')
      ?.trim() ?? 'no reason given'
  );
}
