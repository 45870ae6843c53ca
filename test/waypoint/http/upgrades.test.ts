// Upgrades of HTTP/1.1: what the client sends goes through, whenever it comes.
import { test } from 'tap';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

const ASK = 'GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n';
const SWITCHED = 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n';

/** What the backend gets behind the head of a client that sends `first` at once, `early` before the 101, and `late` behind it. */
async function through(first: string, early: string, late: string, ends: 'early' | 'late'): Promise<TextReader> {
  const waypoint = memoryWaypoint();
  const client = waypoint.connect();
  client.start(new TextReader());
  client.write(Buffer.from(ASK + first));
  await turns();
  client.write(Buffer.from(early));
  await turns();
  if (ends === 'early') client.end();
  await turns();
  const backend = new TextReader();
  waypoint.backends[0]?.start(backend);
  waypoint.backends[0]?.write(Buffer.from(SWITCHED));
  await turns();
  client.write(Buffer.from(late));
  if (ends === 'late') client.end();
  await turns();
  client.reset();
  return backend;
}

test('what a client sends before it has the 101 reaches the backend, and before what it sends later', async (t) => {
  for (const [first, early] of [
    ['one,', ''],
    ['', 'one,'],
    ['on', 'e,'],
  ] as const) {
    const { text } = await through(first, early, 'two', 'late');
    t.equal(text.split('\r\n\r\n')[1], 'one,two', JSON.stringify([first, early]));
  }
});

test('the end of a client that ends before it has the 101 reaches the backend', async (t) => {
  for (const early of ['', 'one']) {
    const { text, ended } = await through('', early, '', 'early');
    t.equal(text.split('\r\n\r\n')[1], early);
    t.ok(ended, JSON.stringify(early));
  }
});
