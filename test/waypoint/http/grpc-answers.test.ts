// Answers of the waypoint itself to gRPC: a client reads its status from headers, and takes a plain HTTP answer for a broken server.
import { type Test, test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { TrafficRecord } from '../../../waypoint/telemetry/record.ts';
import { memoryWaypoint, turns } from '../../harness/memory-waypoint.ts';

interface Answer {
  headers: HeaderList;
  ended: boolean;
  record: TrafficRecord | undefined;
}

async function ask(t: Test, options: Parameters<typeof memoryWaypoint>[0], type = 'application/grpc'): Promise<Answer> {
  const waypoint = memoryWaypoint({ clientHttp2: true, ...options });
  const session = new Http2Session(waypoint.connect(), { role: 'client', clock: systemClock });
  t.teardown(() => session.close());
  await turns();
  const stream = session.request([
    [':method', 'POST'],
    [':scheme', 'http'],
    [':authority', 'a'],
    [':path', '/shop.Cart/Add'],
    ['content-type', type],
    ['te', 'trailers'],
  ]);
  let answer: Omit<Answer, 'record'> = { headers: [], ended: false };
  stream.opener = { onResponse: (headers, ended) => void (answer = { headers, ended }) };
  await turns();
  const headers = answer.headers.filter(([name]) => name !== 'date');
  return { ...answer, headers, record: waypoint.records[0] };
}

test('a gRPC client gets the status that the HTTP status stands for, and the text as its message', async (t) => {
  const codes: [http: number, grpc: string][] = [
    [400, '13'],
    [401, '16'],
    [403, '7'],
    [404, '12'],
    [429, '14'],
    [502, '14'],
    [503, '14'],
    [504, '14'],
    [500, '2'],
    [204, '2'],
  ];
  for (const [status, code] of codes) {
    const { headers, ended, record } = await ask(t, { direct: { status, body: '100% gone: é' } });
    t.same(headers, [
      [':status', '200'],
      ['content-type', 'application/grpc'],
      ['grpc-status', code],
      ['grpc-message', '100%25 gone: %C3%A9'],
    ]);
    t.ok(ended, 'no body, no trailers');
    t.match(record, { status: 200, grpcStatus: code, sent: 0, details: 'direct_response' });
  }
});

test('a backend that cannot be reached is UNAVAILABLE to a gRPC client, which tries again', async (t) => {
  const { headers, record } = await ask(t, { refuses: () => true }, 'application/grpc+proto');
  t.match(new Map(headers.map(([name, value]) => [name, value])), new Map([['grpc-status', '14']]));
  t.match(record, { status: 200, grpcStatus: '14', flag: 'UF' });
});

test('others get the answer as it is, gRPC-Web among them', async (t) => {
  for (const type of ['application/grpc-web', 'application/json']) {
    const { headers, record } = await ask(t, { direct: { status: 403, body: 'no' } }, type);
    t.same(headers[0], [':status', '403']);
    t.match(record, { status: 403, grpcStatus: undefined, sent: 2 });
  }
});
