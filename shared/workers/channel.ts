// One end of the conversation between the main thread and a worker: messages, and requests that are answered.
import type { ErrorCode } from '../errors.ts';
import { MeshError } from '../errors.ts';

/** A Worker, or the MessagePort of one. */
export interface Port {
  postMessage(value: unknown): void;
  on(event: 'message', listener: (value: unknown) => void): unknown;
}

type Envelope<M> =
  | { readonly message: M }
  | { readonly message: M; readonly request: number }
  | { readonly answer: number; readonly value: unknown }
  | { readonly answer: number; readonly fault: Fault };

/** A MeshError on its way between threads: a clone would lose its class. */
interface Fault {
  readonly code: ErrorCode;
  readonly message: string;
}

export interface Kind {
  readonly kind: string;
}

/** `Answers`: what requests are answered with, by their kind, on either side; other messages are not answered. */
export class Channel<In extends Kind, Out extends Kind, Answers> {
  readonly #port: Port;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #next = 1;
  #closed: MeshError | undefined;

  /** `serve` returns the answer of a request; what it throws is told to the asker, or leaves this thread when nobody asked. */
  constructor(port: Port, serve: (message: In) => unknown) {
    this.#port = port;
    port.on('message', (value) => this.#receive(value as Envelope<In>, serve));
  }

  send(message: Out): void {
    if (!this.#closed) this.#port.postMessage({ message } satisfies Envelope<Out>);
  }

  /** Rejects with the other side's fault, or when the channel closes first. */
  async ask<K extends string & keyof Answers>(message: Out & { readonly kind: K }): Promise<Answers[K]> {
    if (this.#closed) throw this.#closed;
    const request = this.#next++;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(request, waiting);
    this.#port.postMessage({ message, request } satisfies Envelope<Out>);
    return (await waiting.promise) as Answers[K];
  }

  /** The other side is gone: whoever waits is refused, and nothing is sent any more. */
  close(reason: MeshError): void {
    this.#closed = reason;
    for (const { reject } of this.#waiting.values()) reject(reason);
    this.#waiting.clear();
  }

  #receive(envelope: Envelope<In>, serve: (message: In) => unknown): void {
    if ('answer' in envelope) {
      const waiting = this.#waiting.get(envelope.answer);
      this.#waiting.delete(envelope.answer);
      if ('fault' in envelope) waiting?.reject(fromFault(envelope.fault));
      else waiting?.resolve(envelope.value);
    } else if ('request' in envelope) void this.#answer(envelope.request, envelope.message, serve);
    else serve(envelope.message);
  }

  async #answer(answer: number, message: In, serve: (message: In) => unknown): Promise<void> {
    let envelope: Envelope<Out>;
    try {
      envelope = { answer, value: await serve(message) };
    } catch (thrown) {
      envelope = { answer, fault: toFault(thrown) };
    }
    if (!this.#closed) this.#port.postMessage(envelope);
  }
}

function toFault(thrown: unknown): Fault {
  const { code, message } = MeshError.from(thrown);
  return { code, message };
}

function fromFault({ code, message }: Fault): MeshError {
  return new MeshError(code, message);
}
