// A connection that was looked at to tell its protocol is handed over as if nobody had looked.
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { DetectingStream } from '../../../waypoint/listener/detect.ts';
import { turns } from '../../harness/memory-waypoint.ts';
import { streamPair } from '../../harness/stream-pair.ts';

const ignore = (): void => undefined;
const IGNORE = { onData: ignore, onEnd: ignore, onDrain: ignore, onClose: ignore };

test('the end of the client is told once, and before the close', async (t) => {
  for (const endsFirst of [true, false]) {
    const [client, stream] = streamPair();
    client.start(IGNORE);
    client.write(Buffer.from('GET / HTTP/1.1\r\n'));
    const detecting = new DetectingStream(stream);
    await detecting.detect(systemClock, 0);
    if (endsFirst) client.end();
    await turns();
    const events: string[] = [];
    detecting.start({ ...IGNORE, onEnd: () => void events.push('end'), onClose: () => void events.push('close') });
    await turns();
    if (!endsFirst) client.end();
    await turns();
    detecting.end();
    await turns();
    t.same(events, ['end', 'close'], endsFirst ? 'ended before the handover' : 'ended behind it');
  }
});
