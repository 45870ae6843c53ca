// What the mesh wants to know of a peer's certificate, read where OpenSSL has it: parsing the certificate again would cost a tenth of
// the handshake.
import { addressOf, copyOf, pointerTo } from '../os/memory.ts';
import type { PeerCertificate } from '../reactor/api.ts';
import { elements, first, TAG } from './der.ts';
import { openssl, type Pointer } from './openssl.ts';

/** NID_subject_alt_name. */
const SUBJECT_ALT_NAME = 85;
/** The uniformResourceIdentifier of a GeneralName. */
const URI = 0x86;

/** `certificate` is an X509 that belongs to a session. */
export function readPeer(certificate: Pointer): PeerCertificate {
  const ssl = openssl();
  const at = ssl.X509_get_ext_by_NID(certificate, SUBJECT_ALT_NAME, -1);
  const names = at < 0 ? undefined : stringOf(ssl.X509_EXTENSION_get_data(ssl.X509_get_ext(certificate, at)));
  return {
    uris: names ? uriNames(names) : [],
    serial: stringOf(ssl.X509_get0_serialNumber(certificate)).toString('hex').toUpperCase(),
  };
}

/** The DER of each certificate of a stack of them. */
export function readChain(stack: Pointer): Buffer[] {
  const ssl = openssl();
  return Array.from({ length: ssl.OPENSSL_sk_num(stack) }, (_, index) => {
    const certificate = ssl.OPENSSL_sk_value(stack, index);
    const der = Buffer.alloc(ssl.i2d_X509(certificate, null));
    ssl.i2d_X509(certificate, pointerTo(addressOf(der)));
    return der;
  });
}

/** The URIs of a subjectAltName, in order. */
export function uriNames(subjectAltName: Uint8Array): string[] {
  const { tag, content } = first(subjectAltName);
  if (tag !== TAG.SEQUENCE) return [];
  return elements(content).flatMap((name) => (name.tag === URI ? [Buffer.from(name.content).toString('latin1')] : []));
}

/** The bytes of an ASN1_STRING. */
function stringOf(string: Pointer): Buffer {
  return copyOf(openssl().ASN1_STRING_get0_data(string), openssl().ASN1_STRING_length(string));
}
