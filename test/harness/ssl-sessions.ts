// How many TLS sessions of this thread OpenSSL has not been asked to free: each is some 38 KB that no garbage collector sees.
import type { Test } from 'tap';
import { openssl } from '#shared/tls/openssl.ts';

/** Counts from now on, as long as the test lasts. */
export function countSessions(t: Test): { readonly alive: number } {
  const ssl = openssl();
  const calls = { ...ssl };
  const count = { alive: 0 };
  ssl.SSL_new = (context) => {
    count.alive += 1;
    return calls.SSL_new(context);
  };
  ssl.SSL_free = (session) => {
    count.alive -= 1;
    calls.SSL_free(session);
  };
  t.teardown(() => Object.assign(ssl, calls));
  return count;
}
