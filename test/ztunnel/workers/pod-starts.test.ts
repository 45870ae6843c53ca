// Pods that come while workers go: threads that a test plays itself, message by message.
import { EventEmitter } from 'node:events';
import { fstatSync, openSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import t from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { CertificateFeed } from '#shared/workers/certificate-feed.ts';
import type { WorkerThreads } from '#shared/workers/threads.ts';
import { loadConfig } from '../../../ztunnel/config.ts';
import { MeshStore } from '../../../ztunnel/state/store.ts';
import { startWorkers } from '../../../ztunnel/workers/pool.ts';
import { eventually } from '../../harness/mesh-lab.ts';

const who = { name: 'web', namespace: 'shop', serviceAccount: 'web' };

interface Asked {
  readonly message: { readonly kind: string; readonly pod?: { readonly uid: string } };
  readonly request?: number;
}

class PlayedThread extends EventEmitter {
  /** Pods that it was told to start, and the requests that it has not answered. */
  readonly pods: string[] = [];
  readonly open: number[] = [];
  relays = 0;
  readonly #answers: boolean;
  #begun = false;

  constructor(answers: boolean) {
    super();
    this.#answers = answers;
  }

  postMessage(value: Asked): void {
    if (!this.#begun) {
      this.#begun = true;
      setImmediate(() => this.emit('message', { message: { kind: 'started', backend: 'native' } }));
      return;
    }
    const { message, request } = value;
    if (message.kind === 'start-pod') this.pods.push(message.pod?.uid ?? '');
    if (message.kind === 'resume-relay') this.relays += 1;
    if (message.kind === 'exit') return this.end();
    if (request === undefined) return undefined;
    this.open.push(request);
    if (this.#answers) setImmediate(() => this.answer());
    return undefined;
  }

  answer(fault?: string): void {
    for (const answer of this.open.splice(0))
      this.emit('message', fault ? { answer, fault: { code: 'internal', message: fault } } : { answer, value: undefined });
  }

  end(): void {
    this.emit('exit', 1);
  }

  async terminate(): Promise<number> {
    this.end();
    return 1;
  }
}

/** `answers`: of the threads in the order in which they are taken, whether they answer by themselves. */
function poolOver(t: { teardown(run: () => unknown): void }, count: number, answers: boolean[]) {
  const threads: PlayedThread[] = [];
  const take = (): Worker => {
    const thread = new PlayedThread(answers[threads.length] ?? true);
    threads.push(thread);
    return thread as unknown as Worker;
  };
  const pool = startWorkers(
    {
      certificates: { get: () => Promise.reject(new Error('none')) },
      feed: new CertificateFeed(),
      metrics: new Metrics(),
      logging: new Logging({ sink: { write: () => undefined } }),
      readiness: new Readiness(),
      clock: systemClock,
      openFiles: 1024,
      threads: { take } as unknown as WorkerThreads,
      config: loadConfig(() => undefined),
      store: new MeshStore(''),
      maxConnections: 10,
      short: new Int32Array(1),
    },
    count,
  );
  t.teardown(() => pool[Symbol.asyncDispose]());
  return { pool, threads };
}

t.test('a worker that ends while the others still start a pod has a successor that serves it', async (t) => {
  const { pool, threads } = poolOver(t, 2, [true, false]);
  await pool.started;
  const started = pool.start('uid', who, undefined, []);
  await eventually('both asked', () => (threads[0]?.pods.length && threads[1]?.pods.length) || undefined);
  await new Promise((turn) => setImmediate(turn));
  threads[0]?.end();
  await eventually('a successor', () => threads[2]);
  await new Promise((later) => setTimeout(later, 20));
  threads[1]?.answer();
  await started;
  await eventually('the pod', () => threads[2]?.pods.length || undefined);
  t.same(threads[2]?.pods, ['uid'], 'once');
});

t.test('a worker that cannot serve the pods that are there is replaced', async (t) => {
  const { pool, threads } = poolOver(t, 1, [true, false]);
  await pool.started;
  await pool.start('uid', who, undefined, []);
  threads[0]?.end();
  await eventually('the pod', () => threads[1]?.pods.length || undefined);
  threads[1]?.answer('too many open files');
  await eventually('another one', () => threads[2]?.pods.length || undefined);
  await pool.start('other', who, undefined, []);
  t.same(threads[2]?.pods, ['uid', 'other']);
});

t.test('a relay that was handed over goes to a worker that runs, and is closed where none does', async (t) => {
  const { pool, threads } = poolOver(t, 2, []);
  await pool.started;
  threads[0]?.end();
  const end = () => ({ fd: openSync('/dev/null', 'r'), remote: { ip: '10.1.0.1', port: 1 }, unsent: new Uint8Array() });
  const relay = { story: {} as never, results: [], downstream: end(), upstream: end() };
  pool.resumeRelay(relay);
  t.equal(threads[1]?.relays, 1);
  threads[1]?.end();
  pool.resumeRelay(relay);
  for (const { fd } of [relay.downstream, relay.upstream]) t.throws(() => fstatSync(fd), { code: 'EBADF' });
});
