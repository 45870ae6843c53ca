// What a stream tells its user.
import type { CloseReason, StreamHandler } from '../reactor/api.ts';
import type { HeaderList } from './headers.ts';

/** A StreamHandler that also wants trailers; they come before onEnd. */
export interface Http2Handler extends StreamHandler {
  onTrailers?(trailers: HeaderList): void;
}

/** Who opened a stream, or let it in, and waits for what comes before it is started: set on the stream, and taken away once it was answered. */
export interface StreamOpener {
  /** Client: 1xx heads, which come before the response. */
  onInformational?(headers: HeaderList): void;
  /** Client: the final response head, once. `ended`: nothing follows. */
  onResponse?(headers: HeaderList, ended: boolean): void;
  /** The stream closed while nobody has started it. */
  onAbandoned?(reason: CloseReason): void;
}
