// The bytes of the CNI agent's protocol, written by hand: Istio's agents and ztunnels know them by field numbers, and generated code on
// both ends of a test would agree on wrong ones (facts: ztunnel 2).
import t from 'tap';
import { ackMessage, helloMessage, parseRequest } from '../../../ztunnel/inpod/zds-messages.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function request(hexBytes: string, fds: number[] = []) {
  return parseRequest({ data: Buffer.from(hexBytes.replaceAll(' ', ''), 'hex'), fds, truncated: false });
}

t.test('what a ztunnel sends', async (t) => {
  t.equal(hex(helloMessage()), '0801', 'ZdsHello{version=1: V1}');
  t.equal(hex(ackMessage('')), '0a00', 'WorkloadResponse{ack=1{}}');
  t.equal(hex(ackMessage('no')), '0a040a026e6f', 'WorkloadResponse{ack=1{error=1: "no"}}');
  for (const long of ['x', 'ä', '€', '😀']) {
    const answer = ackMessage(`.${long.repeat(2000)}`);
    t.ok(answer.length <= 1024, `an agent that reads 1024 bytes gets the whole of an answer, ${answer.length}`);
    t.ok(answer.length > 1000, 'which says as much as there is room for');
  }
});

t.test('what an agent sends', async (t) => {
  const pod = '0a 0e  0a 01 61  12 09  0a 01 77  12 01 73  1a 01 6a';
  t.strictSame(
    request(pod, [7]),
    { kind: 'add', uid: 'a', who: { name: 'w', namespace: 's', serviceAccount: 'j' }, netns: 7 },
    'add=1{uid=1, workload_info=2{name=1, namespace=2, service_account=3}}',
  );
  t.strictSame(request('12 03  12 01 61'), { kind: 'del', uid: 'a' }, 'del=2{uid=2}');
  t.strictSame(request('2a 03  0a 01 61'), { kind: 'keep', uid: 'a' }, 'keep=5{uid=1}');
  t.strictSame(request('1a 00'), { kind: 'snapshot-sent' }, 'snapshot_sent=3{}');
});
