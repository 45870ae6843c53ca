// A connection to an endpoint with the time until when it waits for a request.
import { nextId } from '#shared/collections/id-table.ts';
import type { Expiring } from '../expiry.ts';
import type { ClientConnection } from '../http/message.ts';

/** Milliseconds that a connection waits for its next request: less than what common servers allow, so that they rarely close first. */
export const IDLE_MS = 4000;

export class Kept<Connection extends ClientConnection = ClientConnection> implements Expiring {
  readonly connection: Connection;
  readonly id = nextId();
  deadline = Infinity;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  onDeadline(): void {
    this.connection.close();
  }
}
