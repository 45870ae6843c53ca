// What one decision takes with many policies in the namespace, and what a push of one policy takes with many live connections.
import { policyContext } from '../../ztunnel/policy/match.ts';
import { evaluate } from '../../ztunnel/policy/evaluate.ts';
import type { Match, Policy } from '../../ztunnel/state/model.ts';
import { PolicyIndex } from '../../ztunnel/state/policies.ts';
import { spiffeId } from '#shared/ids.ts';
import { quantile } from '../statistics.ts';

const RULES = 10;
const WARM_UP = 20_000;
const DECISIONS = 100_000;
const CONNECTIONS = 10_000;
const NAMESPACE = 'mesh';
const WORKLOAD = { namespace: NAMESPACE, authorizationPolicies: [] };

const NOTHING: Match = {
  namespaces: [],
  notNamespaces: [],
  principals: [],
  notPrincipals: [],
  serviceAccounts: [],
  notServiceAccounts: [],
  sourceIps: [],
  notSourceIps: [],
  destinationIps: [],
  notDestinationIps: [],
  destinationPorts: [],
  notDestinationPorts: [],
};

/** Every policy refuses others in some way that policies are written; none of it concerns the callers of the benchmark. */
function matchOf(number: number): Match {
  const name = `other-${number}`;
  const destinationPorts = [8080];
  switch (number % 6) {
    case 0:
      return { ...NOTHING, destinationPorts, principals: [{ kind: 'exact', value: `cluster.local/ns/far/sa/${name}` }] };
    case 1:
      return { ...NOTHING, destinationPorts, principals: [{ kind: 'prefix', value: `cluster.local/ns/${name}/` }] };
    case 2:
      return { ...NOTHING, destinationPorts, namespaces: [{ kind: 'exact', value: name }] };
    case 3:
      return { ...NOTHING, serviceAccounts: [{ namespace: NAMESPACE, serviceAccount: name }] };
    case 4:
      return {
        ...NOTHING,
        sourceIps: [{ bytes: Uint8Array.of(172, number >> 16, number >> 8, number), length: 32 - (number % 8) }],
      };
    default:
      return { ...NOTHING, destinationPorts: [10_000 + (number % 50_000)] };
  }
}

function policyOf(number: number): Policy {
  const name = `deny-${number}`;
  const rules = Array.from({ length: RULES }, (_, rule) => [[matchOf(number * RULES + rule)]]);
  return { key: `${NAMESPACE}/${name}`, name, namespace: NAMESPACE, scope: 'Namespace', action: 'Deny', dryRun: false, rules };
}

export interface DecisionTimes {
  /** us */
  readonly p99: number;
  /** All live connections asked again after a push, ms. */
  readonly push: number;
  /** The same after a push for another namespace, ms. */
  readonly otherPush: number;
}

export function measureDecisions(policies: number): DecisionTimes {
  const index = new PolicyIndex();
  for (let number = 0; number < policies; number += 1) index.set(policyOf(number));
  const contextOf = (number: number) =>
    policyContext({
      source: { ip: `10.244.${(number >> 8) & 255}.${number & 255}`, port: 40_000 },
      destination: { ip: '10.244.1.2', port: 8080 },
      identity: spiffeId({ trustDomain: 'cluster.local', namespace: NAMESPACE, serviceAccount: `client-${number % 64}` }),
    });
  const decide = (number: number): boolean => evaluate(index.forWorkload(WORKLOAD), contextOf(number)).verdict.allowed;
  for (let number = 0; number < WARM_UP; number += 1) if (!decide(number)) throw new Error('a policy of the benchmark refuses');
  const times: number[] = [];
  for (let number = 0; number < DECISIONS; number += 1) {
    const start = performance.now();
    decide(number);
    times.push((performance.now() - start) * 1000);
  }
  const live = Array.from({ length: CONNECTIONS }, (_, number) => ({
    context: contextOf(number),
    asked: index.forWorkload(WORKLOAD),
  }));
  const push = (policy: Policy): number => {
    const start = performance.now();
    index.set(policy);
    for (const connection of live) {
      const now = index.forWorkload(WORKLOAD);
      if (now === connection.asked) continue;
      connection.asked = now;
      evaluate(now, connection.context);
    }
    return performance.now() - start;
  };
  const other = { ...policyOf(0), key: 'other/deny', namespace: 'other' };
  return { p99: quantile(times, 0.99) ?? Infinity, push: push(policyOf(1)), otherPush: push(other) };
}
