// The control plane put together: objects → snapshots → xDS, the certificate authority, and the pages of operators.
import path from 'node:path';
import { Metadata, Server, ServerCredentials } from '@grpc/grpc-js';
import type { Clock } from '#shared/clock.ts';
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { App } from '#shared/lifecycle/run.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import { readinessRoute, withIndex } from '#shared/telemetry/admin-routes.ts';
import { FolderWriter } from '#shared/kube/folder-writer.ts';
import { AdminServer } from '#shared/telemetry/admin-server.ts';
import type { Log } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { metricsRoutes } from '#shared/telemetry/metrics-server.ts';
import { processMetrics } from '#shared/telemetry/process-metrics.ts';
import { buildCa } from './ca/ca.ts';
import type { Ca } from './ca/ca.ts';
import type { ControlPlaneConfig } from './config.ts';
import { debugRoutes, guarded } from './debug.ts';
import { createSource } from './ingest/source.ts';
import { Pipeline } from './pipeline.ts';
import { podLookup } from './pods.ts';
import { AdsServer } from './serve/ads-server.ts';
import { GeneratorRegistry } from './serve/generator.ts';
import { GRPC_OPTIONS, listen } from './serve/grpc-server.ts';
import { TYPE } from './serve/types.ts';
import { SidecarGenerator } from './serve/sidecar-generator.ts';
import { ENVOY_TYPES, WaypointGenerator } from './serve/waypoint-generator.ts';
import { ztunnelGenerator } from './serve/ztunnel-generator.ts';
import { WaypointController } from './provision/controller.ts';

export interface ControlPlaneApp extends App {
  /** The ports in use, for 0 in the configuration. */
  readonly ports: { plaintext: number; tls: number; monitoring: number };
}

/** Resolves when every port listens and the first snapshot is served. */
export async function buildApp(config: ControlPlaneConfig, log: Log, clock: Clock = systemClock): Promise<ControlPlaneApp> {
  const stack = new AsyncDisposableStack();
  try {
    // Names of Istio's dashboards, which lack the `_total` that OpenMetrics wants.
    const metrics = new Metrics({ openMetrics: false });
    processMetrics(metrics);
    const readiness = new Readiness();
    const starting = readiness.block('configuration');

    const registry = new GeneratorRegistry();
    registry.register(['ztunnel'], [TYPE.address, TYPE.authorization], ztunnelGenerator);
    registry.register(['waypoint'], ENVOY_TYPES, new WaypointGenerator());
    registry.register(['sidecar'], ENVOY_TYPES, new SidecarGenerator());

    const pipeline: Pipeline = new Pipeline({
      source: createSource(config, clock),
      settings: config.settings,
      debounce: config.debounce,
      clock,
      log: log.scope('config'),
      metrics,
      onSnapshot: () => ads.pushAll(),
      moreFaults: (snapshot) => registry.faults(snapshot),
    });
    stack.defer(() => pipeline.stop());
    const ads = new AdsServer({
      registry,
      snapshot: () => pipeline.snapshot,
      metrics,
      clock,
      log: log.scope('ads'),
      maxStreams: config.maxStreams,
    });
    const waypoints = new WaypointController({
      objects: pipeline.store,
      writer: new FolderWriter({ folder: config.objectWriteDir, statusFolder: config.statusDir, writer: 'culvert-waypoint' }),
      settings: { ...config.settings, publicAddress: config.publicAddress, image: 'culvert' },
      clock,
      log: log.scope('waypoint'),
    });
    stack.defer(() => waypoints.stop());
    pipeline.onEvents((events) => waypoints.onEvents(events));
    const ca = await buildCa(config.ca, { pods: podLookup(pipeline.store), clock, log: log.scope('ca'), metrics });
    stack.use(ca);

    const ports = await listenAll(config, { stack, ads, ca, pipeline, registry, readiness, metrics, log });
    await pipeline.start();
    starting[Symbol.dispose]();
    log.info('control plane is ready', { ...ports, objects: config.objectDirs.join(':') });
    return { ports, stop: () => stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

interface Parts {
  stack: AsyncDisposableStack;
  ads: AdsServer;
  ca: Ca;
  pipeline: Pipeline;
  registry: GeneratorRegistry;
  readiness: Readiness;
  metrics: Metrics;
  log: Log;
}

/** Every port listens before the first object is read, so that a taken one stops the start. */
async function listenAll(config: ControlPlaneConfig, parts: Parts): Promise<ControlPlaneApp['ports']> {
  const { stack, ads, ca, pipeline, registry, readiness, metrics, log } = parts;
  const plaintext = new Server(GRPC_OPTIONS);
  ads.addTo(plaintext);
  const tls = new Server(GRPC_OPTIONS);
  ads.addTo(tls, (call) => ca.authenticator.authenticate(call));
  ca.addTo(tls);
  stack.defer(() => {
    ads.close();
    plaintext.forceShutdown();
    tls.forceShutdown();
  });

  const debug = debugRoutes({ pipeline, ads, registry });
  const isAdmin = async (authorization: string): Promise<boolean> => {
    const metadata = new Metadata();
    metadata.set('authorization', authorization);
    const caller = await ca.authenticator
      .authenticate({ metadata, getAuthContext: () => null })
      .catch((error: unknown) => MeshError.from(error));
    return !(caller instanceof MeshError) && caller.namespace === config.settings.rootNamespace;
  };
  const monitoring = stack.use(
    new AdminServer(
      withIndex('Culvert control plane', [
        readinessRoute(readiness, '/ready'),
        ...metricsRoutes(metrics),
        ...debug.map((route) => guarded(route, isAdmin)),
      ]),
      log.scope('admin'),
    ),
  );
  const admin = stack.use(
    new AdminServer([...ca.adminRoutes, ...debug, readinessRoute(readiness, '/ready')], log.scope('admin')),
  );
  await monitoring.listen({ port: config.ports.monitoring, hosts: [config.listenAddress] });
  await admin.listen({ path: path.join(config.stateDir, 'admin.sock'), mode: 0o600 });
  return {
    plaintext: await listen(plaintext, config.listenAddress, config.ports.plaintext, ServerCredentials.createInsecure()),
    tls: await listen(tls, config.listenAddress, config.ports.tls, ca.credentials),
    monitoring: monitoring.port,
  };
}
