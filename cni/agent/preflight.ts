// What the agent cannot do without, or not well, tried before it serves: every fault is named, with what helps.
import { closeSync } from 'node:fs';
import { MeshError } from '#shared/errors.ts';
import { currentNetns } from '#shared/os/netns.ts';
import { checkNft, MARKS_ARE_INHERITED } from '../rules/apply.ts';
import { execInNetns } from '../rules/exec.ts';
import { podRules } from '../rules/pod.ts';
import type { PodRules } from '../rules/pod.ts';
import { isSysctlReadOnly } from '../rules/sysctl.ts';

/** Rejects when programs, rights or kernel features are missing; resolves to what works, and could work better. Changes nothing. */
export async function preflight(rules: PodRules): Promise<string[]> {
  const netns = currentNetns();
  try {
    // The same way as into a pod, only that it leads here.
    for (const program of ['ip', 'ss']) {
      const result = await execInNetns(netns, [program, '-V']);
      if (result.code !== 0) throw new MeshError('missing_capability', `${program} does not run: ${result.stderr.trim()}`);
    }
    await checkNft(netns, podRules(rules));
    if (!isSysctlReadOnly(netns, MARKS_ARE_INHERITED)) return [];
    return [
      `/proc/sys cannot be written (net/${MARKS_ARE_INHERITED}), so that the kernel routes each answer of an application twice, some 1 us of CPU a request: mount it for writing, or run the agent privileged`,
    ];
  } finally {
    closeSync(netns);
  }
}
