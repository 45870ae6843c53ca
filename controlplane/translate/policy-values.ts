// The values inside policies as ztunnels match them.
import { create } from '@bufbuild/protobuf';
import { ipToBytes } from '#shared/address.ts';
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

/** Addresses and CIDR blocks. Validation has refused what is neither. */
export function addresses(values: Values): Address[] {
  return (values ?? []).flatMap((text) => {
    const [ip = '', length] = text.split('/');
    const address = ipToBytes(ip);
    return address
      ? [create(AddressSchema, { address, length: length === undefined ? address.length * 8 : Number(length) })]
      : [];
  });
}

export function ports(values: Values): number[] {
  return (values ?? []).map(Number).filter((port) => Number.isInteger(port) && port > 0 && port <= 65535);
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
