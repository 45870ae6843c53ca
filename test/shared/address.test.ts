import fc from 'fast-check';
import t from 'tap';
import { canonicalIp, formatHostPort, ipFromBytes, ipToBytes, knownAddress } from '#shared/address.ts';

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

t.test('a place that many connections go to is one object, and not kept for ever', async (t) => {
  const place = knownAddress('10.9.0.1', 8080);
  t.same(place, { ip: '10.9.0.1', port: 8080 });
  t.equal(knownAddress('10.9.0.1', 15_008).port, 15_008);
  t.equal(knownAddress('10.9.0.1', 8080), place, 'beside the other port of its pod');
  for (let port = 1; port <= 8; port++) knownAddress('10.9.0.1', port);
  t.not(knownAddress('10.9.0.1', 8080), place, 'a scan of ports lets go of it');
  const other = knownAddress('10.9.0.2', 80);
  for (let i = 0; i < 4096; i++) knownAddress(`10.10.${i >> 8}.${i & 255}`, 80);
  t.not(knownAddress('10.9.0.2', 80), other, 'so does a scan of addresses');
});
