// The server's choice of an application protocol: one callback per thread, which OpenSSL calls once in each handshake.
import koffi from 'koffi';
import { copyOf, copyTo, pointerTo } from '../os/memory.ts';
import type { Pointer } from './openssl.ts';

const OK = 0;
const ALERT_FATAL = 2;

/** Protocols in the form of the wire, by the context that speaks them. */
const choices = new Map<Pointer, readonly Buffer[]>();

/** The C type of the callback. */
export function alpnType(): ReturnType<typeof koffi.pointer> {
  return koffi.pointer(koffi.proto('int', ['size_t', 'size_t', 'size_t', 'size_t', 'uint', 'size_t']));
}

/** Names the protocols of a server context. */
export function registerAlpn(context: Pointer, protocols: readonly string[]): void {
  choices.set(
    context,
    protocols.map((name) => encodeAlpn([name])),
  );
}

export function unregisterAlpn(context: Pointer): void {
  choices.delete(context);
}

/** A list of names, each with its length before it. */
export function encodeAlpn(protocols: readonly string[]): Buffer {
  return Buffer.concat(protocols.flatMap((name) => [Buffer.from([name.length]), Buffer.from(name, 'latin1')]));
}

/** The callback; `offered` is the client's list and the answer points into it. Ours come first: the server's preference decides. */
export function selectAlpn(
  _ssl: Pointer,
  out: Pointer,
  outLength: Pointer,
  offered: Pointer,
  length: number,
  context: Pointer,
): number {
  const list = copyOf(offered, length);
  for (const choice of choices.get(context) ?? [])
    for (let at = 0; at < list.length; at += 1 + (list[at] ?? 0)) {
      if (!choice.equals(list.subarray(at, at + choice.length))) continue;
      copyTo(out, pointerTo(offered + at + 1));
      copyTo(outLength, choice.subarray(0, 1));
      return OK;
    }
  return ALERT_FATAL;
}
