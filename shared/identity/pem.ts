// PEM blocks (RFC 7468), strictly: what follows or precedes them is ignored, what is inside must be base64.

const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,40})-----\s*([A-Za-z0-9+/=\s]*?)-----END \1-----/gu;

export function toPem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/gu) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** The DER of each block with this label, in order. */
export function fromPem(label: string, text: string): Buffer[] {
  return Array.from(text.matchAll(BLOCK))
    .filter((block) => block[1] === label)
    .map((block) => Buffer.from(block[2] ?? '', 'base64'));
}

/** The PEM texts of each certificate in a bundle, normalised. */
export function splitCertificates(bundle: string): string[] {
  return fromPem('CERTIFICATE', bundle).map((der) => toPem('CERTIFICATE', der));
}
