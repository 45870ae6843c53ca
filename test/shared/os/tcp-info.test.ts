import { closeSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import t from 'tap';
import { ERRNO, i32, SOL, TCP } from '#shared/os/layout.ts';
import { clientTcp, startConnect } from '#shared/os/socket-factory.ts';
import { libc } from '#shared/os/syscalls.ts';
import { tcpInfo } from '#shared/os/tcp-info.ts';

t.test('the kernel tells of a connection, and takes the time after which it gives it up', async (t) => {
  const server = createServer((socket) => void socket.resume()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const to = { ip: '127.0.0.1', port: (server.address() as AddressInfo).port };
  const fd = clientTcp({ to, userTimeout: 12_345 });
  t.teardown(() => {
    closeSync(fd);
    server.close();
  });
  const value = Buffer.alloc(4);
  libc().getsockopt(fd, SOL.TCP, TCP.USER_TIMEOUT, value, i32(4));
  t.equal(value.readInt32LE(), 12_345);
  t.ok([0, ERRNO.EINPROGRESS].includes(startConnect(fd, to)));
  const [socket] = (await once(server, 'connection')) as [{ bytesRead: number }];
  const message = Buffer.alloc(5000);
  t.equal(libc().send(fd, message, message.length, 0), message.length);
  for (let i = 0; i < 100 && socket.bytesRead < message.length; i++) await new Promise((resolve) => setImmediate(resolve));
  const info = tcpInfo(fd);
  t.match(info, { state: 1, unacknowledged: 0, unsent: 0, bytesReceived: 0n });
  t.ok(info.bytesAcknowledged >= 5000n && info.bytesAcknowledged <= 5002n, 'all of it, and the SYN');
  t.ok(info.segmentSize > 500 && info.segmentSize < 65_536);
  t.ok(info.rtt > 0 && info.rtt < 1_000_000 && info.rttMin <= info.rtt && info.congestionWindow > 0);
  t.throws(() => tcpInfo(999_999), { message: /look at the connection of descriptor 999999: getsockopt: bad file descriptor/u });
});
