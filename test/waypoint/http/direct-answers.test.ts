// Answers that a route gives by itself.
import { test } from 'tap';
import { memoryWaypoint, TextReader, turns } from '../../harness/memory-waypoint.ts';

async function answerOf(direct: { status: number; body: string }): Promise<string> {
  const waypoint = memoryWaypoint({ direct });
  const client = waypoint.connect();
  const reader = new TextReader();
  client.start(reader);
  client.write(Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n'));
  await turns();
  return reader.text;
}

test('a 204 has no body, and no length that says so (RFC 9110, section 8.6)', async (t) => {
  const text = await answerOf({ status: 204, body: 'nothing' });
  t.match(text, /^HTTP\/1\.1 204 /u);
  t.notMatch(text, /content-length|transfer-encoding|nothing/u);
  t.match(text, /\r\n\r\n$/u);
});

test('others have both', async (t) => {
  const text = await answerOf({ status: 200, body: 'hello' });
  t.match(text, /\r\ncontent-length: 5\r\n/u);
  t.match(text, /\r\n\r\nhello$/u);
});
