// The composition of the node agent. The order of the start is what it promises: rules of pods that run are in place before a
// ztunnel is answered, and the plugin is answered only when pods can be enrolled (facts: cni §8).
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { Informer } from '#shared/kube/informer.ts';
import { formatFault } from '#shared/kube/object.ts';
import type { ObjectEvent, ObjectSource, ObjectWriter } from '#shared/kube/object.ts';
import type { Readiness } from '#shared/lifecycle/readiness.ts';
import type { App } from '#shared/lifecycle/run.ts';
import { readinessRoute, withIndex } from '#shared/telemetry/admin-routes.ts';
import { AdminServer, WILDCARD } from '#shared/telemetry/admin-server.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import { metricsRoutes } from '#shared/telemetry/metrics-server.ts';
import type { AgentConfig } from './config.ts';
import { Dataplane } from './dataplane.ts';
import { Enroller } from './enroller.ts';
import { eventRoutes, startEventServer } from './event-server.ts';
import { HostProbes } from './host-probes.ts';
import { PodQueue } from './pod-queue.ts';
import { PodRegistry } from './pods.ts';
import { preflight } from './preflight.ts';
import { ProcScanner } from './proc-scan.ts';
import { SandboxEvents } from './sandbox-events.ts';
import { ZdsServer } from './zds-server.ts';

export interface AgentDeps {
  source: ObjectSource;
  writer: Pick<ObjectWriter, 'overlay'>;
  metrics: Metrics;
  readiness: Readiness;
  clock: Clock;
  log: Log;
}

export interface Agent extends App {
  /** The ports in use, for 0 in the configuration. */
  readonly ports: { ready: number; monitoring: number };
}

export async function startAgent(config: AgentConfig, deps: AgentDeps): Promise<Agent> {
  const { clock, log, metrics, readiness } = deps;
  // Torn down from the end: first nobody asks any more, then acks that are waited for end, then the work does.
  await using parts = new AsyncDisposableStack();
  const starting = readiness.block('node agent');
  for (const warning of await preflight(config.podRules)) log.warn(warning);
  await mkdir(config.runDir, { recursive: true, mode: 0o750 });
  await mkdir(path.dirname(config.zdsPath), { recursive: true });

  const informer = new Informer(deps.source);
  const registry = new PodRegistry(path.join(config.runDir, 'pods.json'), config.hostRoot);
  const probes = new HostProbes(config.hostRules);
  const events = metrics.counter('nodeagent_reconcile_events_total', 'Changes of pods and namespaces that were looked at.', [
    'type',
  ]);
  const queue = new PodQueue({
    reconcile: (uid) => enroller.reconcile(uid),
    onFailure: (uid, error, retryIn) => {
      const pod = registry.get(uid);
      const name = pod ? `${pod.namespace}/${pod.name}` : uid;
      log.warn('pod is not where it belongs; trying again', {
        pod: name,
        retry_ms: Math.round(retryIn),
        error: MeshError.from(error),
      });
    },
    clock,
  });
  const zds = new ZdsServer({
    snapshot: () => dataplane.snapshot(),
    onSnapshot: (refused) => {
      for (const [uid, error] of refused) {
        log.warn('ztunnel could not take a pod of the snapshot', { uid, error });
        dataplane.refused(uid);
      }
      for (const uid of enroller.pods()) queue.add(uid);
      queue.retryNow();
    },
    clock,
    log: log.scope('zds'),
  });
  const dataplane = new Dataplane({
    registry,
    zds,
    probes,
    leave: config.leave,
    clock,
    log: log.scope('dataplane'),
  });
  const enroller = new Enroller({
    nodeName: config.nodeName,
    policy: config.enrolment,
    podRules: config.podRules,
    informer,
    writer: deps.writer,
    registry,
    dataplane,
    scanner: new ProcScanner(config.hostRoot),
    queue,
    log: log.scope('enrolment'),
  });
  metrics.gauge('ztunnel_connected', 'ztunnels connected by ZDS.', [], (family) => (family.cell().value = zds.connected));
  const leaving = 'Pods that left the mesh and may still have connections through it.';
  metrics.gauge('culvert_leaving_pods', leaving, [], (family) => (family.cell().value = dataplane.leaving));

  const pages = await servePages(config, deps);
  parts.defer(() => pages.close());
  informer.onFaults((faults) => faults.forEach((fault) => log.warn('object ignored', { fault: formatFault(fault) })));
  await probes.start();
  await informer.start();
  parts.defer(() => informer.close());
  parts.defer(() => queue.close());
  await captureRunning(enroller, queue, log);
  informer.onChange((changes) => {
    for (const change of changes) events.add(1, change.type === 'set' ? 'update' : 'delete');
    affectedPods(changes, enroller, registry).forEach((uid) => queue.add(uid));
  });
  zds.listen(config.zdsPath);
  parts.defer(() => zds.close());
  const sandboxes = new SandboxEvents({ informer, registry, enroller, queue, podRules: config.podRules });
  const eventLog = log.scope('plugin');
  const eventServer = await startEventServer(
    path.join(config.runDir, 'pluginevent.sock'),
    eventRoutes(sandboxes, metrics, eventLog),
    eventLog,
  );
  parts.use(eventServer);
  for (const uid of enroller.pods()) queue.add(uid);
  starting[Symbol.dispose]();
  log.info('ready', { node: config.nodeName, pods: registry.list().length });

  const running = parts.move();
  return { ports: pages.ports, stop: () => running.disposeAsync() };
}

interface Pages {
  ports: Agent['ports'];
  close(): Promise<void>;
}

async function servePages(config: AgentConfig, { readiness, metrics, log }: AgentDeps): Promise<Pages> {
  const health = { path: '/healthz', summary: 'whether this process lives', handle: () => ({ body: 'ok\n' }) };
  const ready = new AdminServer(withIndex('culvert cni agent', [readinessRoute(readiness, '/readyz'), health]), log);
  const monitoring = new AdminServer(withIndex('culvert cni agent', metricsRoutes(metrics)), log);
  const close = async (): Promise<void> => void (await Promise.all([ready.close(), monitoring.close()]));
  try {
    await ready.listen({ port: config.readyPort, hosts: WILDCARD });
    await monitoring.listen({ port: config.monitoringPort, hosts: WILDCARD });
  } catch (error) {
    await close();
    throw error;
  }
  return { ports: { ready: ready.port, monitoring: monitoring.port }, close };
}

/** Pods that were enrolled under an earlier agent get their rules as this version writes them. One that fails is tried again later. */
async function captureRunning(enroller: Enroller, queue: PodQueue, log: Log): Promise<void> {
  for (const uid of enroller.pods()) {
    try {
      await queue.exclusive(uid, () => enroller.capture(uid));
    } catch (error) {
      log.warn('rules of a running pod could not be renewed', { uid, error: MeshError.from(error) });
    }
  }
}

function affectedPods(changes: readonly ObjectEvent[], enroller: Enroller, registry: PodRegistry): Set<string> {
  const uids = new Set<string>();
  for (const { key } of changes) {
    const [kind, namespace = '', name = ''] = key.split('/');
    if (kind === 'Namespace')
      for (const uid of enroller.pods()) {
        if ((enroller.podOf(uid)?.metadata.namespace ?? registry.get(uid)?.namespace) === name) uids.add(uid);
      }
    else if (kind === 'Pod') for (const uid of enroller.named(namespace, name)) uids.add(uid);
  }
  return uids;
}
