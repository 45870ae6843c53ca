// What a thread keeps between connections to choose endpoints well: a plan per service port in use, who is busy with how many
// connections, and who could not be reached. It follows the store, so that a change of one endpoint costs that one.
import type { NamespacedHostname, WorkloadUid } from '#shared/ids.ts';
import { workloadUid } from '#shared/ids.ts';
import type { PlanRequest } from './endpoint-plan.ts';
import { bytesAt, decodeAddress, entriesOf } from './encoded.ts';
import { EndpointPlan } from './endpoint-plan.ts';
import type { Ejections } from './ejections.ts';
import { samePlace } from './locality.ts';
import type { MeshStore, StateChange } from './store.ts';
import type { EndpointLoad } from './two-choices.ts';

/** Endpoints in all plans together; beyond it the plan used longest ago is made again when it is needed. */
const MAX_ENDPOINTS = 100_000;

export class Balancer {
  readonly ejections: Ejections;
  readonly #store: MeshStore;
  readonly #loads = new Map<WorkloadUid, EndpointLoad>();
  readonly #byService = new Map<NamespacedHostname, EndpointPlan[]>();
  readonly #maxEndpoints: number;
  readonly #unfollow: () => void;

  constructor(store: MeshStore, ejections: Ejections, maxEndpoints = MAX_ENDPOINTS) {
    this.#store = store;
    this.ejections = ejections;
    this.#maxEndpoints = maxEndpoints;
    this.#unfollow = store.onChange((changes) => {
      if (this.#byService.size > 0) for (const change of changes) this.#follow(change);
    });
  }

  plan(request: PlanRequest): EndpointPlan {
    const { service, port, source } = request;
    const plans = this.#byService.get(service.key);
    if (plans) for (const plan of plans) if (plan.port === port && samePlace(plan.source, source)) return plan;
    const plan = new EndpointPlan(this.#store, request, (uid) => this.#load(uid));
    // Made last, kept longest.
    this.#byService.delete(service.key);
    this.#byService.set(service.key, plans ? [...plans, plan] : [plan]);
    this.#shrink();
    return plan;
  }

  /** Endpoints in plans, and those whose connections are counted. */
  get size(): { planned: number; counted: number } {
    const planned = this.#byService.values().reduce((sum, plans) => sum + sizeOf(plans), 0);
    return { planned, counted: this.#loads.size };
  }

  [Symbol.dispose](): void {
    this.#unfollow();
  }

  #load(uid: WorkloadUid): EndpointLoad {
    let load = this.#loads.get(uid);
    if (!load) this.#loads.set(uid, (load = { uid, inFlight: 0 }));
    return load;
  }

  #follow(change: StateChange): void {
    switch (change.kind) {
      case 'workload':
        this.#changed(change.workload.uid);
        for (const key of change.workload.services.keys())
          for (const plan of this.#byService.get(key) ?? []) plan.changed(change.workload.uid);
        return;
      case 'service':
        this.#byService.delete(change.service.key);
        return;
      case 'encoded':
        for (const entry of entriesOf(change.batch)) this.#follow(decodeAddress(bytesAt(change.batch, entry)));
        return;
      case 'remove-address':
        this.#byService.delete(change.name as NamespacedHostname);
        this.#changed(workloadUid(change.name));
        this.#loads.delete(workloadUid(change.name));
        return;
      case 'moved':
      case 'policy':
      case 'remove-policy':
        return;
    }
  }

  /** A workload that no plan knows has no load either: asking the plans is for the few that are in use. */
  #changed(uid: WorkloadUid): void {
    if (!this.#loads.has(uid)) return;
    for (const plans of this.#byService.values()) for (const plan of plans) if (plan.has(uid)) plan.changed(uid);
  }

  #shrink(): void {
    let { planned } = this.size;
    if (planned <= this.#maxEndpoints) return;
    for (const [key, plans] of this.#byService) {
      if (planned <= this.#maxEndpoints || this.#byService.size === 1) break;
      planned -= sizeOf(plans);
      this.#byService.delete(key);
    }
    this.#forgetIdle();
  }

  /** Loads that no plan counts any more; connections that hold one take it off for themselves. */
  #forgetIdle(): void {
    const used = new Set<WorkloadUid>();
    for (const plans of this.#byService.values()) for (const plan of plans) for (const uid of plan.members()) used.add(uid);
    for (const uid of this.#loads.keys()) if (!used.has(uid)) this.#loads.delete(uid);
  }
}

function sizeOf(plans: readonly EndpointPlan[]): number {
  return plans.reduce((sum, plan) => sum + plan.size, 0);
}
