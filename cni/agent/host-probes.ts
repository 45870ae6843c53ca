// Which addresses kubelet probes are marked for: those of enrolled pods (facts: cni §7). The kernel's set is written only from here.
import { nft } from '../rules/apply.ts';
import { addProbed, hostRules, removeProbed } from '../rules/host.ts';
import type { HostRules } from '../rules/host.ts';

export class HostProbes {
  #rules: HostRules;
  #byPod = new Map<string, readonly string[]>();
  #last: Promise<void> = Promise.resolve();

  constructor(rules: HostRules) {
    this.#rules = rules;
  }

  /** Writes the rules anew, with no pods. In the network namespace of this process, which is the node's. */
  start(): Promise<void> {
    return nft(undefined, hostRules(this.#rules, []));
  }

  set(uid: string, ips: readonly string[]): Promise<void> {
    const before = this.#byPod.get(uid) ?? [];
    this.#byPod.set(uid, ips);
    return this.#change(before, ips);
  }

  remove(uid: string): Promise<void> {
    const before = this.#byPod.get(uid) ?? [];
    this.#byPod.delete(uid);
    return this.#change(before, []);
  }

  /** An address may have gone over to another pod before the old one was forgotten: it stays as long as anyone has it. */
  #change(before: readonly string[], after: readonly string[]): Promise<void> {
    const done = this.#last.then(async () => {
      const held = new Set([...this.#byPod.values()].flat());
      const gone = before.filter((ip) => !held.has(ip));
      const added = after.filter((ip) => held.has(ip));
      const text = removeProbed(this.#rules, gone) + addProbed(this.#rules, added);
      if (text !== '') await nft(undefined, text);
    });
    this.#last = done.catch(() => undefined);
    return done;
  }
}
