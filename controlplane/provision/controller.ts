// Keeps a waypoint running for every Gateway that asks for one, and takes it away with the Gateway. Level-triggered: each round looks
// at the whole state, so a missed event or a restart costs nothing.
import type { Clock, Timer } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { Gateway } from '#shared/kube/gateway-api.ts';
import { isKind } from '#shared/kube/kinds.ts';
import { type KubeObject, type ObjectEvent, objectKey, type ObjectKey, type ObjectWriter } from '#shared/kube/object.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { ObjectView } from '../store/store.ts';
import { isWaypointGateway } from '../translate/waypoint-classes.ts';
import { GENERATED_KINDS, gatewayOf, waypointName } from './names.ts';
import { waypointObjects, type WaypointSettings } from './objects.ts';
import { gatewayStatus } from './status.ts';

export interface WaypointControllerOptions {
  /** The objects as they are now. */
  readonly objects: ObjectView;
  readonly writer: ObjectWriter;
  readonly settings: WaypointSettings;
  readonly clock: Clock;
  readonly log: Log;
}

/** A change of one of these may call for a round. */
const WATCHED = ['Gateway', 'GatewayClass', 'Pod', 'Service', 'ServiceAccount', 'Deployment'];
/** Milliseconds until a round that failed is repeated. */
const RETRY_MS = 1000;

export class WaypointController {
  readonly #options: WaypointControllerOptions;
  /** What was written last, by key: an object that is as wanted is not written again. */
  readonly #written = new Map<ObjectKey, string>();
  #running = false;
  #due = false;
  #stopped = false;
  #retry: Timer | undefined;

  constructor(options: WaypointControllerOptions) {
    this.#options = options;
  }

  /** Told of every batch of events. */
  onEvents(events: readonly ObjectEvent[]): void {
    // What is gone must be written again, should it still be wanted; the status of a Gateway goes with the Gateway.
    for (const { type, key } of events) if (type === 'delete' && !key.startsWith('Gateway/')) this.#written.delete(key);
    if (events.some(({ key }) => WATCHED.includes(key.split('/')[0] ?? ''))) void this.run();
  }

  /** One round, and another when something changed meanwhile. Never rejects. */
  async run(): Promise<void> {
    this.#due = true;
    if (this.#running) return;
    this.#running = true;
    while (this.#due && !this.#stopped) {
      this.#due = false;
      await this.#round();
    }
    this.#running = false;
  }

  stop(): void {
    this.#stopped = true;
    this.#retry?.cancel();
  }

  async #round(): Promise<void> {
    const { objects } = this.#options;
    try {
      const gateways = objects.list('Gateway').filter(isWaypointGateway);
      const wanted = new Set<ObjectKey>();
      const failed = new Set<ObjectKey>();
      for (const gateway of gateways) {
        try {
          await this.#serve(gateway, wanted);
        } catch (error) {
          failed.add(objectKey(gateway));
          this.#tryAgain(error, objectKey(gateway));
        }
      }
      await this.#removeUnwanted(wanted, new Set(gateways.map(objectKey)), failed);
    } catch (error) {
      this.#tryAgain(error);
    }
  }

  /** Writes what the Gateway is to have, and adds it to `wanted`. */
  async #serve(gateway: Gateway, wanted: Set<ObjectKey>): Promise<void> {
    const { objects, settings, clock } = this.#options;
    const name = waypointName(gateway, objects);
    for (const object of waypointObjects(gateway, name, settings)) {
      wanted.add(objectKey(object));
      await this.#apply(object);
    }
    const host = `${name}.${gateway.metadata.namespace}.svc.${settings.clusterDomain}`;
    const status = gatewayStatus(gateway, host, objects, new Date(clock.now()).toISOString());
    await this.#overlay(objectKey(gateway), { status });
  }

  #tryAgain(error: unknown, gateway?: ObjectKey): void {
    const { log, clock } = this.#options;
    log.warn('waypoints could not be brought up to date', { gateway, error: MeshError.from(error), retry_ms: RETRY_MS });
    this.#retry ??= clock.after(RETRY_MS, () => {
      this.#retry = undefined;
      void this.run();
    });
  }

  async #apply(object: KubeObject): Promise<void> {
    const key = objectKey(object);
    const text = JSON.stringify(object);
    if (this.#written.get(key) === text) return;
    await this.#options.writer.apply(object);
    this.#written.set(key, text);
    this.#options.log.info('waypoint object written', { object: key });
  }

  async #overlay(key: ObjectKey, patch: Record<string, unknown>): Promise<void> {
    const text = JSON.stringify(patch);
    if (this.#written.get(key) === text) return;
    await this.#options.writer.overlay(key, patch);
    this.#written.set(key, text);
  }

  /** Generated objects of Gateways that are gone, and status of Gateways that are gone or of another class now. */
  async #removeUnwanted(
    wanted: ReadonlySet<ObjectKey>,
    gateways: ReadonlySet<ObjectKey>,
    failed: ReadonlySet<ObjectKey>,
  ): Promise<void> {
    const { objects, writer, log } = this.#options;
    const present = GENERATED_KINDS.flatMap((kind): readonly KubeObject[] => objects.list(kind));
    const stale = present.filter((object) => gatewayOf(object) !== undefined).map(objectKey);
    for (const key of new Set([...stale, ...this.#written.keys()])) {
      if (wanted.has(key) || gateways.has(key) || (failed.size > 0 && this.#mayBeOf(failed, key))) continue;
      if (key.startsWith('Gateway/')) await writer.overlay(key, undefined);
      else {
        await writer.remove(key);
        log.info('waypoint object removed', { object: key });
      }
      this.#written.delete(key);
    }
  }

  /** Of what could not be served it is not known what is wanted. */
  #mayBeOf(failed: ReadonlySet<ObjectKey>, key: ObjectKey): boolean {
    const [kind = '', namespace = '', name = ''] = key.split('/');
    const object = isKind(kind) ? this.#options.objects.get(kind, namespace, name) : undefined;
    return object !== undefined && failed.has(`Gateway/${namespace}/${gatewayOf(object)}`);
  }
}
