// The life of a process: start the app, wait for a signal, stop it in order, exit with the right code. Used by each main.ts.
import type { Log } from '../telemetry/log.ts';
import { MeshError } from '../errors.ts';
import { processCpu, releaseWhenQuiet } from './quiet.ts';
import { releaseAllMemory } from './start-memory.ts';

/** A composed application. `stop` drains and resolves when every part has ended; it is called once. */
export interface App {
  stop(): Promise<void>;
}

export interface RunControl {
  /** Asks for the same shutdown as SIGTERM does (/quitquitquit). An error, because the app cannot do what it is for, makes it exit 1. */
  readonly requestStop: (why: string | Error) => void;
  /** Aborted when a stop was asked for, also while the app still starts. */
  readonly stopping: AbortSignal;
}

export interface RunOptions {
  log: Log;
  /** Builds and starts the app. What it rejects with is logged and the process exits 1. */
  start(control: RunControl): Promise<App>;
  /** Called before the process exits: flush the log. */
  flush?(): void;
  /** Called once, when the start is over and nothing that it left has been collected yet. */
  settled?(): void;
  /** Called when the process has become quiet after its start, or after a burst: gives back memory that only that needed. */
  giveBack?(): void;
  /** Seams for tests. */
  process?: Pick<NodeJS.Process, 'on' | 'exit'>;
}

/** After the start, ms: what it asked for (a control plane's answer, pods) has come, and is not kept waiting by a collection. */
const SETTLED = 1000;

/**
 * Runs an app until SIGTERM, SIGINT or `requestStop`, then stops it and exits 0. A second SIGINT exits at once. A failed start,
 * an uncaught error, an error to stop for, or a failed stop is logged and exits 1.
 */
export async function run(options: RunOptions): Promise<void> {
  const { log } = options;
  const host = options.process ?? process;
  const exit = (code: number): void => {
    options.flush?.();
    host.exit(code);
  };
  const crash = (what: string, thrown: unknown): void => {
    log.error(what, describe(thrown));
    exit(1);
  };

  // From here on the process ends by exit() only, also while everything it waits for is unref'd.
  setInterval(() => undefined, 2 ** 30);
  const stopping = new AbortController();
  let code = 0;
  const requestStop = (why: string | Error): void => {
    if (stopping.signal.aborted) return;
    if (typeof why === 'string') log.info('shutting down', { reason: why });
    else {
      log.error('shutting down', describe(why));
      code = 1;
    }
    stopping.abort(why);
  };
  host.on('SIGTERM', () => requestStop('SIGTERM'));
  host.on('SIGINT', () => {
    if (stopping.signal.aborted) return exit(0);
    requestStop('SIGINT');
  });
  host.on('uncaughtException', (error) => crash('uncaught error', error));
  host.on('unhandledRejection', (reason) => crash('unhandled rejection', reason));

  let app: App;
  try {
    app = await options.start({ requestStop, stopping: stopping.signal });
  } catch (error) {
    if (stopping.signal.aborted) return exit(code);
    return crash('start failed', error);
  }
  const onError = (error: unknown): void => log.warn('memory that is free is kept', describe(error));
  const settle = (): void => {
    options.settled?.();
    releaseAllMemory().catch(onError);
  };
  setTimeout(settle, SETTLED).unref();
  releaseWhenQuiet({ cpu: processCpu, looks: 3, giveBack: () => options.giveBack?.(), onError });
  await aborted(stopping.signal);
  try {
    await app.stop();
  } catch (error) {
    return crash('stop failed', error);
  }
  log.info('stopped');
  exit(code);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** A MeshError speaks for itself; anything else is a fault of ours and shows its stack. */
function describe(thrown: unknown): Record<string, string> {
  if (thrown instanceof MeshError) return { error: thrown.message, code: thrown.code };
  if (thrown instanceof Error) return { error: thrown.message, stack: thrown.stack ?? '' };
  return { error: String(thrown) };
}
