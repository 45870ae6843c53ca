// A TLS client that is nothing but a session and a socket: it can end at any byte of the handshake, and say anything behind it.
import type { Conn, StreamHandler, TlsOptions } from '#shared/reactor/api.ts';
import { SslContexts } from '#shared/tls/openssl-context.ts';
import type { SslSession } from '#shared/tls/openssl-session.ts';

export const quiet: StreamHandler = {
  onData: () => undefined,
  onEnd: () => undefined,
  onDrain: () => undefined,
  onClose: () => undefined,
};

export class HandClient {
  readonly conn: Conn;
  readonly session: SslSession;

  constructor(conn: Conn, { certificate, alpn }: TlsOptions) {
    this.conn = conn;
    this.session = new SslContexts({}).get(certificate, alpn).client();
  }

  /** Sends its first flight, and then nothing. */
  hello(): void {
    this.session.handshake();
    this.conn.write(this.session.take());
  }

  /** Sends its second flight, and in the same packet what `behind` sends. */
  finish(behind: () => void): void {
    let done = false;
    this.conn.start({
      ...quiet,
      onData: (chunk) => {
        if (done) return;
        this.session.feed(chunk);
        done = this.session.handshake();
        this.session.keep();
        if (!done) return;
        this.conn.write(this.session.take());
        behind();
      },
    });
    this.hello();
  }
}
