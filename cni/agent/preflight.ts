// What the agent cannot do without, tried before it serves: every fault is named, with what helps.
import { closeSync } from 'node:fs';
import { MeshError } from '#shared/errors.ts';
import { currentNetns } from '#shared/os/netns.ts';
import { checkNft } from '../rules/apply.ts';
import { execInNetns } from '../rules/exec.ts';
import { podRules } from '../rules/pod.ts';
import type { PodRules } from '../rules/pod.ts';

/** Rejects when programs, rights or kernel features are missing. Changes nothing. */
export async function preflight(rules: PodRules): Promise<void> {
  const netns = currentNetns();
  try {
    // The same way as into a pod, only that it leads here.
    for (const program of ['ip', 'ss']) {
      const result = await execInNetns(netns, [program, '-V']);
      if (result.code !== 0) throw new MeshError('missing_capability', `${program} does not run: ${result.stderr.trim()}`);
    }
    await checkNft(netns, podRules(rules));
  } finally {
    closeSync(netns);
  }
}
