// Pointers that OpenSSL finds in its arguments and behind them, looked at before it does (CULVERT_DEBUG_POINTERS=1).
import { faultOf, isKnown } from '../os/known-memory.ts';
import { isLive, type Fail, type Rules } from '../os/pointer-check.ts';
import { BIO_C_SET_BUF_MEM, SSL_CTRL, type OpenSsl } from './openssl.ts';

/** A BUF_MEM: length, data, max, flags. */
const BUF_MEM_SIZE = 32;
/** No allocation of ours is larger: a length that was computed wrongly is. */
const MOST_MEMORY = 2 ** 30;

type Bytes = Uint8Array | null;

export const OPENSSL_RULES: Rules<OpenSsl> = {
  SSL_CTX_ctrl(fail, _call, _context, command, _value, argument) {
    if (command === SSL_CTRL.CHAIN_CERT) {
      if (!isLive('certificate', argument)) fail(4, `${argument} is no certificate, or was freed`);
    } else if (argument !== 0) fail(4, `command ${command} takes no pointer`);
  },
  BIO_ctrl(fail, _call, _bio, command, _value, argument) {
    if (command === BIO_C_SET_BUF_MEM) mustKnow(fail, 4, argument, BUF_MEM_SIZE);
    else if (argument !== 0) fail(4, `command ${command} takes no pointer`);
  },
  d2i_X509: (fail, _call, _certificate, from, length) => encoded(fail, from, length),
  d2i_AutoPrivateKey: (fail, _call, _key, from, length) => encoded(fail, from, length),
  i2d_X509(fail, call, certificate, to) {
    if (to === null) return;
    // It writes as much as it needs and is told no limit.
    mustKnow(fail, 2, pointerIn(to), call(certificate, null));
  },
  CRYPTO_malloc(fail, _call, size) {
    if (!Number.isInteger(size) || size < 1 || size > MOST_MEMORY) fail(1, `${size} is no size of memory`);
  },
};

/** DER is read from where a pointer variable points, for so many bytes. */
function encoded(fail: Fail, from: Bytes, length: number): void {
  if (length < 1) fail(3, `${length} is no length`);
  mustKnow(fail, 2, pointerIn(from), length);
}

function mustKnow(fail: Fail, argument: number, address: number, length: number): void {
  if (!isKnown(address, length)) fail(argument, faultOf(address, length) ?? `${address} is in no array`);
}

function pointerIn(variable: Bytes): number {
  return Number(Buffer.from(variable ?? Buffer.alloc(8)).readBigUInt64LE());
}
