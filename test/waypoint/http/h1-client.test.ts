// A connection to an HTTP/1.1 backend that sends more than its answer, all of it in one read.
import { type Test, test } from 'tap';
import { BufferPool } from '#shared/http2/output.ts';
import type { CloseReason } from '#shared/reactor/api.ts';
import { H1Client } from '../../../waypoint/http/h1-client.ts';
import type { ClientMessage } from '../../../waypoint/http/message.ts';
import { Headers } from '../../../waypoint/http/request.ts';
import { turns } from '../../harness/memory-waypoint.ts';
import { type MemoryStream, streamPair } from '../../harness/stream-pair.ts';

interface Asked {
  readonly backend: MemoryStream;
  /** Statuses that came, in order. */
  readonly statuses: number[];
  closed: () => CloseReason | undefined;
}

/** One request under way. `onInterim` hears of each 1xx head. */
function ask(t: Test, onInterim: (message: ClientMessage) => void = () => undefined): Asked {
  const [own, backend] = streamPair({ highWater: Infinity });
  t.teardown(() => backend.reset());
  const deps = { defer: (task: () => void) => void setImmediate(task), buffers: new BufferPool(4096, 4) };
  const client = new H1Client(own, deps, () => undefined);
  const statuses: number[] = [];
  let closed: CloseReason | undefined;
  const ignore = (): void => undefined;
  const message = client.request(
    { method: 'GET', path: '/', authority: 'a', scheme: 'http', protocol: 'HTTP/1.1', headers: new Headers() },
    true,
    {
      onInformational: ({ status }) => {
        statuses.push(status);
        onInterim(message);
      },
      onResponse: ({ status }) => void statuses.push(status),
    },
  );
  message.start({
    onData: ignore,
    onTrailers: ignore,
    onEnd: ignore,
    onDrain: ignore,
    onClose: (reason) => void (closed = reason),
  });
  return { backend, statuses, closed: () => closed };
}

const HINT = 'HTTP/1.1 103\r\n\r\n';
const ANSWER = 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n';
/** 1 MiB, what one read may bring. */
const HINTS = 65_536;

test('a read full of interim heads does not overflow the stack', async (t) => {
  const { backend, statuses, closed } = ask(t);
  backend.write(Buffer.from(HINT.repeat(HINTS) + ANSWER));
  await turns();
  t.equal(statuses.length, HINTS + 1);
  t.equal(statuses.at(-1), 200);
  t.equal(closed(), undefined);
});

test('nothing of a read is looked at any more once the request was given up', async (t) => {
  const { backend, statuses, closed } = ask(t, (message) => message.reset());
  backend.write(Buffer.from(HINT.repeat(HINTS) + ANSWER));
  await turns();
  t.equal(statuses.length, 1);
  t.same(closed(), { kind: 'reset', remote: false });
});

test('a fault behind interim heads is told to whoever waits for the answer', async (t) => {
  const { backend, statuses, closed } = ask(t);
  backend.write(Buffer.from(`${HINT}${HINT}HTTP/1.1 nonsense\r\n\r\n`));
  await turns();
  t.same(statuses, [103, 103]);
  t.match(closed(), { kind: 'error', error: { code: 'protocol_error' } });
});
