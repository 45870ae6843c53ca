// Bits of a stream's state: a field for each would take eight bytes, and a node has tens of thousands of streams.
export const PAUSED = 1;
export const WANTS_DRAIN = 2;
/** A head went out (server) or the response came in (client). */
export const ANSWERED = 4;
/** Nothing more is written; the end is sent behind what waits for a window. */
export const ENDING = 8;
export const LOCAL_ENDED = 16;
export const REMOTE_ENDED = 32;
/** The reader has seen the peer's end. */
export const END_DELIVERED = 64;
/** The reader was told that the stream is over. */
export const ANNOUNCED = 128;
// Client: what was asked, as it decides whether the response has a body.
export const ASKED_HEAD = 256;
export const ASKED_CONNECT = 512;
