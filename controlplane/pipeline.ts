// From events to snapshots: changes are collected, debounced, translated once, and told to whoever listens.
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { formatFault } from '#shared/kube/object.ts';
import type { ObjectEvent, ObjectFault, ObjectSource } from '#shared/kube/object.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import { Debouncer } from './serve/debounce.ts';
import type { DebounceOptions } from './serve/debounce.ts';
import { SnapshotBuilder } from './snapshot/builder.ts';
import type { Snapshot } from './snapshot/snapshot.ts';
import type { ObjectStore } from './store/store.ts';
import type { MeshSettings } from './translate/settings.ts';

export interface PipelineOptions {
  source: ObjectSource;
  settings: MeshSettings;
  debounce: DebounceOptions;
  clock: Clock;
  log: Log;
  metrics: Metrics;
  /** Called with each new snapshot. */
  onSnapshot: (snapshot: Snapshot) => void;
  /** Faults that only generators find. */
  moreFaults: (snapshot: Snapshot) => readonly ObjectFault[];
}

/** How long a mesh without a single object is taken for one whose objects are still to come, ms. */
const EMPTY_PATIENCE = 3000;

export class Pipeline {
  #options: PipelineOptions;
  #builder: SnapshotBuilder;
  #debouncer: Debouncer;
  #sourceFaults: readonly ObjectFault[] = [];
  #faults: readonly ObjectFault[] = [];
  #told = new Set<string>();
  #changed: number | undefined;
  #firstSnapshot = Promise.withResolvers<void>();
  #listeners = new Set<(events: readonly ObjectEvent[]) => void>();

  constructor(options: PipelineOptions) {
    this.#options = options;
    const { settings, source, clock, debounce, metrics } = options;
    this.#builder = new SnapshotBuilder(settings, (key) => source.locate(key));
    this.#debouncer = new Debouncer(debounce, clock, () => this.#build());
    metrics.gauge('pilot_services', 'Services of the mesh', [], (family) => (family.cell().value = this.snapshot.services.size));
    metrics.gauge(
      'culvert_workloads',
      'Workloads of the mesh',
      [],
      (family) => (family.cell().value = this.snapshot.workloads.size),
    );
    metrics.gauge(
      'pilot_total_rejected_configs',
      'Faults in the configuration',
      [],
      (family) => (family.cell().value = this.#faults.length),
    );
  }

  get snapshot(): Snapshot {
    return this.#builder.last;
  }

  /** The objects as they are now, ahead of the snapshot. */
  get store(): ObjectStore {
    return this.#builder.store;
  }

  /** Every fault of the present configuration: of files, of objects, of references. */
  get faults(): readonly ObjectFault[] {
    return this.#faults;
  }

  /** Hears every batch of events at once, before the debounce. Returns how to stop. */
  onEvents(listener: (events: readonly ObjectEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Resolves when the first snapshot is there. */
  async start(): Promise<void> {
    const { source } = this.#options;
    await source.watch(
      (events) => this.#receive(events),
      (faults) => {
        this.#sourceFaults = faults;
        if (this.snapshot.sequence > 0) this.#collectFaults();
      },
    );
    if (this.#changed === undefined) await this.#awaitObjects();
    if (this.snapshot.sequence === 0) {
      this.#debouncer.cancel();
      this.#build();
    }
    if (this.snapshot.sequence === 0) throw new MeshError('internal', 'the configuration cannot be translated; the log says why');
  }

  stop(): void {
    this.#debouncer.cancel();
    this.#options.source.close();
  }

  /**
   * Proxies that reconnect are told what is gone since. An empty first list is more often a mount or copy under way than a mesh
   * without anything, and would take all they know from them: it has to stay empty for a while.
   */
  async #awaitObjects(): Promise<void> {
    const { clock, log } = this.#options;
    const timer = clock.after(EMPTY_PATIENCE, () => {
      if (this.#changed === undefined) log.warn('there is no object: the mesh is served as empty');
      this.#firstSnapshot.resolve();
    });
    await this.#firstSnapshot.promise;
    timer.cancel();
  }

  #receive(events: ObjectEvent[]): void {
    if (events.length === 0) return;
    const { clock, metrics } = this.#options;
    this.#changed ??= clock.monotonic();
    this.#builder.apply(events);
    metrics.counter('pilot_inbound_updates', 'Changes of objects', ['type']).add(events.length, 'config');
    for (const listener of this.#listeners) listener(events);
    this.#debouncer.trigger();
  }

  #build(): void {
    const { clock, onSnapshot, metrics, log } = this.#options;
    const start = clock.monotonic();
    let snapshot: Snapshot;
    try {
      snapshot = this.#builder.build(this.#changed ?? start);
    } catch (error) {
      // The last snapshot serves on; the next change tries again.
      log.error('cannot make a snapshot', { error: error as Error, stack: (error as Error).stack });
      metrics.counter('pilot_total_xds_internal_errors', 'Faults of the server itself').add(1);
      return;
    }
    this.#changed = undefined;
    this.#firstSnapshot.resolve();
    metrics.counter('pilot_push_triggers', 'Snapshots made', ['type']).add(1, 'config');
    onSnapshot(snapshot);
    this.#collectFaults();
    log.debug('snapshot made', {
      sequence: snapshot.sequence,
      workloads: snapshot.workloads.size,
      services: snapshot.services.size,
      ms: Math.round(clock.monotonic() - start),
    });
  }

  /** Each fault is one line in the log when it appears. */
  #collectFaults(): void {
    const { log, moreFaults } = this.#options;
    this.#faults = [...this.#sourceFaults, ...this.snapshot.faults, ...moreFaults(this.snapshot)];
    const lines = new Set(this.#faults.map(formatFault));
    for (const line of lines) if (!this.#told.has(line)) log.warn(line);
    this.#told = lines;
  }
}
