// Every identity's current certificate: fetched once however many ask, renewed at half of its life, served while it is valid
// (facts: ztunnel 7).
import { Backoff } from '../backoff.ts';
import type { Clock, Timer } from '../clock.ts';
import { MeshError } from '../errors.ts';
import type { SpiffeId } from '../ids.ts';
import type { Log } from '../telemetry/log.ts';
import type { Family, Metrics } from '../telemetry/metrics.ts';
import type { CertificateFetcher } from './ca-client.ts';
import type { CertificateSource, WorkloadCertificate } from './certificate.ts';
import { describeCertificate } from './certificate-dump.ts';
import type { CertificateDump } from './certificate-dump.ts';
import { FetchQueue } from './fetch-queue.ts';
import type { Priority } from './fetch-queue.ts';
import { renewalDelay } from './rotation.ts';

export interface CertificateCacheOptions {
  fetcher: CertificateFetcher;
  clock: Clock;
  log: Log;
  metrics: Metrics;
  /** Fetches at a time; default 8. */
  concurrency?: number;
  /** How long a forgotten identity is kept, ms, for a pod that comes right back; default 10 s. */
  grace?: number;
  /** How long those who ask for a new identity's certificate wait through failed fetches, ms; default 10 s, as for a connect; 0: not at all. */
  patience?: number;
  /** Called with every new certificate, and with undefined when the identity is forgotten: for worker threads. */
  onChange?: (identity: SpiffeId, certificate: WorkloadCertificate | undefined) => void;
  random?: () => number;
}

const CONCURRENCY = 8;
const GRACE = 10_000;
const PATIENCE = 10_000;
const RETRY = { initial: 1000, max: 150_000, jitter: 0.2 };
/** Between two attempts for an identity that has no valid certificate and is wanted by a connection. */
const RETRY_WANTED = 1000;

/**
 * One identity. `first` settles with the first certificate, or when patience for it has ended with a fault; `fault` is the last fetch's,
 * undefined after a success.
 */
interface Entry {
  readonly identity: SpiffeId;
  readonly abort: AbortController;
  /** Of the first fetch, or of one that is made because the certificate ended unnoticed. */
  first: PromiseWithResolvers<void>;
  readonly backoff: Backoff;
  certificate: WorkloadCertificate | undefined;
  fault: MeshError | undefined;
  /** When the last fetch ended, on the monotonic clock. */
  tried: number;
  next: Timer | undefined;
  /** Until a failure to get the first certificate is told to who waits for it; undefined afterwards. */
  patience: Timer | undefined;
  forgetting: Timer | undefined;
}

export class CertificateCache implements CertificateSource, Disposable {
  #options: CertificateCacheOptions;
  #random: () => number;
  #queue: FetchQueue<SpiffeId>;
  #entries = new Map<SpiffeId, Entry>();
  #fetches: Family<'result'>;

  constructor(options: CertificateCacheOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#queue = new FetchQueue(options.concurrency ?? CONCURRENCY);
    this.#fetches = options.metrics.counter('culvert_certificate_fetches_total', 'Certificate requests to the CA', ['result']);
    options.metrics.gauge(
      'culvert_certificate_expiry_timestamp_seconds',
      'When the certificate in use ends, seconds since the epoch; alarm on it minus time()',
      ['identity'],
      (family) => this.#collectExpiry(family),
    );
  }

  /** The certificate in use, without waiting; undefined when there is none or it has expired. */
  current(identity: SpiffeId): WorkloadCertificate | undefined {
    const certificate = this.#entries.get(identity)?.certificate;
    return certificate && certificate.notAfter > this.#options.clock.now() ? certificate : undefined;
  }

  async get(identity: SpiffeId): Promise<WorkloadCertificate> {
    const known = this.#entries.get(identity);
    // The last connections of a pod that has left: nobody would forget it again.
    if (known?.forgetting) this.#forgetLater(known);
    const current = this.current(identity);
    if (current) return current;
    const entry = this.#require(identity, 'realtime');
    this.#hasten(entry);
    await entry.first.promise;
    const certificate = this.current(identity);
    if (certificate) return certificate;
    throw (
      entry.fault ?? new MeshError('no_certificate', `the certificate of ${identity} has expired and its renewal is under way`)
    );
  }

  /** Fetches ahead of the first use. */
  prefetch(identity: SpiffeId): void {
    const entry = this.#require(identity, 'warmup');
    entry.forgetting?.cancel();
    entry.forgetting = undefined;
  }

  /** The last pod of this identity has left. After the grace its certificate is dropped and waiters are refused. */
  forget(identity: SpiffeId): void {
    const entry = this.#entries.get(identity);
    if (entry && !entry.forgetting) this.#forgetLater(entry);
  }

  /** For /config_dump, sorted by identity. */
  dump(): CertificateDump[] {
    const now = this.#options.clock.now();
    return [...this.#entries.values()]
      .map(({ identity, certificate, fault }) => describeCertificate(identity, certificate, fault, now))
      .sort((a, b) => (a.identity < b.identity ? -1 : 1));
  }

  [Symbol.dispose](): void {
    for (const entry of this.#entries.values()) this.#drop(entry);
  }

  /** The entry of an identity that is needed; begins to fetch when it is new. */
  #require(identity: SpiffeId, priority: Priority): Entry {
    const known = this.#entries.get(identity);
    if (known) {
      this.#queue.raise(identity, priority);
      return known;
    }
    const entry: Entry = {
      identity,
      abort: new AbortController(),
      first: Promise.withResolvers(),
      backoff: new Backoff({ ...RETRY, random: this.#random }),
      certificate: undefined,
      fault: undefined,
      tried: 0,
      next: undefined,
      patience: undefined,
      forgetting: undefined,
    };
    const { clock, patience = PATIENCE } = this.#options;
    if (patience > 0)
      entry.patience = clock.after(patience, () => {
        entry.patience = undefined;
        if (entry.fault) entry.first.resolve();
      });
    this.#entries.set(identity, entry);
    this.#queue.add(identity, priority, () => this.#fetch(entry));
    return entry;
  }

  #forgetLater(entry: Entry): void {
    entry.forgetting?.cancel();
    entry.forgetting = this.#options.clock.after(this.#options.grace ?? GRACE, () => this.#drop(entry));
  }

  /** One fetch and what follows from it; never rejects. */
  async #fetch(entry: Entry): Promise<void> {
    const { identity } = entry;
    try {
      const certificate = await this.#options.fetcher.fetch(identity, entry.abort.signal);
      if (this.#entries.get(identity) === entry) this.#succeeded(entry, certificate);
    } catch (error) {
      if (this.#entries.get(identity) === entry) this.#failed(entry, MeshError.from(error, 'no_certificate'));
    }
    entry.tried = this.#options.clock.monotonic();
    if (!entry.fault || !entry.patience) entry.first.resolve();
  }

  /**
   * A connection wants what is not there: the CA was away for so long that the pause between attempts has grown, or the clock stepped past
   * the end of the certificate. The next attempt is now; after a failure nobody waits for it.
   */
  #hasten(entry: Entry): void {
    const { clock } = this.#options;
    if (!entry.next || clock.monotonic() - entry.tried < RETRY_WANTED) return;
    entry.next.cancel();
    entry.next = undefined;
    if (!entry.fault) entry.first = Promise.withResolvers();
    this.#queue.add(entry.identity, 'realtime', () => this.#fetch(entry));
  }

  #succeeded(entry: Entry, certificate: WorkloadCertificate): void {
    const { clock, log, onChange } = this.#options;
    const { identity } = entry;
    entry.certificate = certificate;
    entry.fault = undefined;
    entry.patience?.cancel();
    entry.patience = undefined;
    entry.backoff.reset();
    this.#fetches.add(1, 'success');
    log.debug('certificate fetched', {
      identity,
      serial: certificate.serial,
      expires: new Date(certificate.notAfter).toISOString(),
    });
    onChange?.(identity, certificate);
    this.#fetchAfter(entry, renewalDelay(certificate, clock.now(), this.#random));
  }

  /** A certificate that is still valid stays in use; the retry is no later than its end. */
  #failed(entry: Entry, fault: MeshError): void {
    const { clock, log } = this.#options;
    entry.fault = fault;
    this.#fetches.add(1, 'failure');
    const left = entry.certificate ? entry.certificate.notAfter - clock.now() : 0;
    const delay = left > 0 ? Math.min(entry.backoff.next(), left) : entry.backoff.next();
    log.warn('certificate request failed', {
      identity: entry.identity,
      error: fault,
      retry_ms: Math.round(delay),
      valid_ms: Math.max(0, left),
    });
    this.#fetchAfter(entry, delay);
  }

  #fetchAfter(entry: Entry, delay: number): void {
    entry.next = this.#options.clock.after(delay, () => {
      entry.next = undefined;
      this.#queue.add(entry.identity, 'background', () => this.#fetch(entry));
    });
  }

  #drop(entry: Entry): void {
    const { identity } = entry;
    entry.next?.cancel();
    entry.patience?.cancel();
    entry.forgetting?.cancel();
    this.#entries.delete(identity);
    this.#queue.remove(identity);
    entry.fault = new MeshError('no_certificate', `${identity}: the identity is no longer needed`);
    entry.abort.abort(entry.fault);
    entry.first.resolve();
    this.#options.onChange?.(identity, undefined);
  }

  #collectExpiry(family: Family<'identity'>): void {
    family.clear();
    for (const { identity, certificate } of this.#entries.values())
      if (certificate) family.cell(identity).value = Math.round(certificate.notAfter / 1000);
  }
}
