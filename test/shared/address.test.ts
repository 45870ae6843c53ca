import fc from 'fast-check';
import t from 'tap';
import { canonicalIp, formatHostPort, ipFromBytes, ipToBytes } from '#shared/address.ts';

t.test('IPv4-mapped IPv6 is shown as IPv4', async (t) => {
  t.equal(canonicalIp('::ffff:10.1.2.3'), '10.1.2.3');
  t.equal(canonicalIp('FD00::0001'), 'fd00::1');
  t.equal(canonicalIp('10.1.2'), undefined);
});

t.test('IPv6 is bracketed before a port', async (t) => {
  t.equal(formatHostPort({ ip: 'fd00::1', port: 80 }), '[fd00::1]:80');
  t.equal(formatHostPort({ ip: '10.0.0.1', port: 80 }), '10.0.0.1:80');
});

t.test('text and bytes are inverse for every address', async (t) => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (ip) => {
      const canonical = canonicalIp(ip);
      const bytes = ipToBytes(ip);
      return bytes !== undefined && ipFromBytes(bytes) === canonical;
    }),
  );
  t.equal(ipFromBytes(new Uint8Array(5)), undefined);
  // inet_ntop prints this one as ::0.1.0.0
  t.same(ipToBytes('::0:1:0'), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0));
});
