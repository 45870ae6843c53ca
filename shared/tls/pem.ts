// PEM as the blocks of DER in it.

/** The blocks in order, whatever their labels say. */
export function pemBlocks(pem: string): Buffer[] {
  return [...pem.matchAll(/-----BEGIN [A-Z0-9 ]+-----([A-Za-z0-9+/=\s]+)-----END/gu)].map(([, base64 = '']) =>
    Buffer.from(base64, 'base64'),
  );
}
