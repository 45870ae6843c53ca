// The values inside policies as ztunnels match them.
import { create } from '@bufbuild/protobuf';
import { ipToBytes } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import { AddressSchema, ServiceAccountMatchSchema, StringMatchSchema } from '#shared/gen/istio/security/authorization_pb.ts';
import type { Address, ServiceAccountMatch, StringMatch } from '#shared/gen/istio/security/authorization_pb.ts';

type Values = readonly string[] | undefined;

/** `*` is presence, `*x` a suffix, `x*` a prefix, anything else exact. */
export function stringMatch(text: string): StringMatch {
  if (text === '*') return create(StringMatchSchema, { matchType: { case: 'presence', value: {} } });
  if (text.startsWith('*')) return create(StringMatchSchema, { matchType: { case: 'suffix', value: text.slice(1) } });
  if (text.endsWith('*')) return create(StringMatchSchema, { matchType: { case: 'prefix', value: text.slice(0, -1) } });
  return create(StringMatchSchema, { matchType: { case: 'exact', value: text } });
}

export function strings(values: Values): StringMatch[] {
  return (values ?? []).map(stringMatch);
}

/** Addresses and CIDR blocks. Throws on what is neither: left out, it would widen a match, or narrow a DENY. */
export function addresses(values: Values): Address[] {
  return (values ?? []).map((text) => {
    const [ip = '', bits, ...rest] = text.split('/');
    const address = ipToBytes(ip);
    const length = bits === undefined ? (address?.length ?? 0) * 8 : Number(bits);
    if (!address || rest.length > 0 || bits === '' || !Number.isInteger(length) || length < 0 || length > address.length * 8)
      throw new MeshError('invalid_config', `"${text}" is not an address or a block like 10.0.0.0/8`);
    return create(AddressSchema, { address, length });
  });
}

/** Throws on what is no port, for the same reason. */
export function ports(values: Values): number[] {
  return (values ?? []).map((text) => {
    const port = Number(text);
    if (Number.isInteger(port) && port > 0 && port <= 65_535) return port;
    throw new MeshError('invalid_config', `"${text}" is not a port`);
  });
}

/** `NAMESPACE/NAME`, or `NAME` in the policy's own namespace. */
export function serviceAccounts(values: Values, namespace: string): ServiceAccountMatch[] {
  return (values ?? []).map((text) => {
    const slash = text.indexOf('/');
    const own = slash < 0;
    return create(ServiceAccountMatchSchema, {
      namespace: own ? namespace : text.slice(0, slash),
      serviceAccount: own ? text : text.slice(slash + 1),
    });
  });
}
