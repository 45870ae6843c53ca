// Which endpoint gets the next request.
import type { Endpoint, LbPolicy } from './cluster.ts';

export interface Picker {
  /** Undefined when there is none. */
  pick(): Endpoint | undefined;
}

export function createPicker(policy: LbPolicy, endpoints: readonly Endpoint[], random: () => number = Math.random): Picker {
  if (endpoints.length === 1) return { pick: () => endpoints[0] };
  switch (policy) {
    case 'round-robin':
      return roundRobin(endpoints, random);
    case 'least-request':
      return leastRequest(endpoints, random);
    case 'random':
      return { pick: weightedRandom(endpoints, random) };
  }
}

/** Smooth weighted round robin from a random start, so that many waypoints do not begin with the same endpoint. */
function roundRobin(endpoints: readonly Endpoint[], random: () => number): Picker {
  const total = endpoints.reduce((sum, endpoint) => sum + endpoint.weight, 0);
  const credit = endpoints.map((endpoint) => Math.floor(random() * endpoint.weight));
  return {
    pick() {
      let best = -1;
      for (let index = 0; index < endpoints.length; index += 1) {
        credit[index] = (credit[index] ?? 0) + (endpoints[index]?.weight ?? 0);
        if (best === -1 || (credit[index] ?? 0) > (credit[best] ?? 0)) best = index;
      }
      if (best === -1) return undefined;
      credit[best] = (credit[best] ?? 0) - total;
      return endpoints[best];
    },
  };
}

/** Of two chosen by weight, the one with fewer requests under way: near to the best of all at the price of two. */
function leastRequest(endpoints: readonly Endpoint[], random: () => number): Picker {
  const draw = weightedRandom(endpoints, random);
  return {
    pick() {
      const first = draw();
      const second = draw();
      if (!first || !second) return undefined;
      return first.active <= second.active ? first : second;
    },
  };
}

function weightedRandom(endpoints: readonly Endpoint[], random: () => number): () => Endpoint | undefined {
  const total = endpoints.reduce((sum, endpoint) => sum + endpoint.weight, 0);
  return () => {
    let left = random() * total;
    for (const endpoint of endpoints) {
      left -= endpoint.weight;
      if (left < 0) return endpoint;
    }
    return endpoints.at(-1);
  };
}
