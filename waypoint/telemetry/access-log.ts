// The access log line, in the default text format that Istio gives Envoy (facts: waypoint A6).
import type { HostPort } from '#shared/address.ts';
import type { LogLines } from './log-lines.ts';
import type { TrafficRecord } from './record.ts';

export class AccessLog {
  readonly #lines: LogLines;
  /** The second that #prefix is of, since the epoch. */
  #second = -1;
  /** `[2026-11-23T22:13:43.` */
  #prefix = '';

  constructor(lines: LogLines) {
    this.#lines = lines;
  }

  write(record: TrafficRecord): void {
    const { head, connection, serviceTime } = record;
    const lines = this.#lines;
    this.#time(record.started);
    if (head) {
      lines
        .foreign(head.method)
        .text(' ')
        .foreign(record.originalPath ?? head.path);
      lines.text(' ').text(head.protocol);
    } else lines.text('- - -');
    lines.text('" ').number(record.status).text(' ').text(record.flag).text(' ').foreign(record.details);
    lines.text(' - "').foreign(record.transportFailure).text('" ').number(record.received).text(' ').number(record.sent);
    lines.text(' ').number(Math.round(record.duration)).text(' ');
    if (serviceTime === undefined) lines.text('-');
    else lines.number(Math.round(serviceTime));
    lines.text(' "').foreign(head?.headers.get('x-forwarded-for')).text('" "').foreign(head?.headers.get('user-agent'));
    lines.text('" "').foreign(head?.headers.get('x-request-id')).text('" "').foreign(head?.authority);
    lines.text('" "').text(record.upstreamHost).text('" ').text(record.cluster).text(' - ');
    this.#address(connection.destination);
    lines.text(' ');
    this.#address(connection.remote);
    lines.text(' - ').text(record.routeName).end();
  }

  /** `[TIME] "`: all but the milliseconds stay the same for a second. */
  #time(at: number): void {
    const second = Math.floor(at / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#prefix = `[${new Date(second * 1000).toISOString().slice(0, 20)}`;
    }
    const ms = Math.floor(at - second * 1000);
    this.#lines.text(this.#prefix).text(ms < 10 ? '00' : ms < 100 ? '0' : '');
    this.#lines.number(ms).text('Z] "');
  }

  #address({ ip, port }: HostPort): void {
    const lines = this.#lines;
    if (ip.includes(':')) lines.text('[').text(ip).text(']');
    else lines.text(ip);
    lines.text(':').number(port);
  }
}
