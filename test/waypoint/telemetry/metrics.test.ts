// Metrics of requests: peers choose some of the labels, and must not fill the waypoint's memory with them.
import { test } from 'tap';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { Headers } from '../../../waypoint/http/request.ts';
import { grpcStatusLabel, TrafficMetrics } from '../../../waypoint/telemetry/metrics.ts';
import { newRecord, type TrafficRecord } from '../../../waypoint/telemetry/record.ts';

const CONNECTION = {
  peer: '',
  local: '',
  remote: { ip: '10.0.0.1', port: 1 },
  destination: { ip: '10.0.0.2', port: 80 },
};
/** Of one tunnel. */
const CLIENT = {};

function answered(status: number, grpcStatus?: string): TrafficRecord {
  const headers = new Headers([['content-type', 'application/grpc']]);
  const head = { method: 'POST', path: '/', authority: 'a', scheme: 'http', protocol: 'HTTP/2', headers } as const;
  return Object.assign(newRecord(CONNECTION, CLIENT, head, 0), { status, grpcStatus });
}

test('a grpc-status that is none is one label, whatever a backend writes', async (t) => {
  for (const [text, label] of [
    ['0', '0'],
    ['16', '16'],
    ['007', '7'],
    ['17', '-1'],
    ['-5', '-1'],
    ['1e1', '-1'],
    ['', '-1'],
    ['0,0', '-1'],
    ['9'.repeat(1000), '-1'],
    [undefined, 'unknown'],
  ] as const)
    t.equal(grpcStatusLabel(text), label, text ?? 'none');
  const metrics = new Metrics();
  const traffic = new TrafficMetrics(metrics);
  for (let i = 0; i < 100; i += 1) traffic.request(answered(200, `x${i}`));
  const lines = (await metrics.render()).body.match(/^istio_requests_total.*$/gmu);
  t.equal(lines?.length, 1);
  t.match(lines?.[0], /grpc_response_status="-1"\} 100$/u);
});

test('every request counts, also of label sets beyond those that are kept for a client', async (t) => {
  const metrics = new Metrics();
  const traffic = new TrafficMetrics(metrics);
  for (let round = 0; round < 2; round += 1)
    for (let status = 200; status < 400; status += 1) traffic.request(answered(status, '0'));
  const lines = (await metrics.render()).body.match(/^istio_requests_total.*\} 2$/gmu);
  t.equal(lines?.length, 200);
});
