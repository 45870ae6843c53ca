// Log lines in Istio's two forms, with levels per scope that change at run time (facts: ztunnel 12, 13). A line is
// formatted only when its level is on.
import { systemClock } from '../clock.ts';
import type { Clock } from '../clock.ts';
import { LevelFilter } from './log-levels.ts';
import type { LogLevel } from './log-levels.ts';
import { stdoutSink } from './stdout-sink.ts';

/** `undefined` leaves the field out; an Error shows its message. */
export type LogValue = string | number | bigint | boolean | Error | undefined;
export type LogFields = Readonly<Record<string, LogValue>>;
export type LogFormat = 'text' | 'json';

/** Where finished lines go. */
export interface LogSink {
  write(line: string): unknown;
  /** Writes what was held back. */
  flush?(): void;
}

/** One scope's log. Guard costly fields with `enabled`. */
export interface Log {
  enabled(level: LogLevel): boolean;
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  trace(message: string, fields?: LogFields): void;
  /** The log of another scope. */
  scope(name: string): Log;
}

export interface LoggingOptions {
  /** Default `text`. */
  format?: LogFormat;
  /** `info`, or `warn,xds=debug`; default `info`. */
  level?: string;
  /** Default: standard output. */
  sink?: LogSink;
  clock?: Clock;
}

/** Every log of one process: one format, one sink, one filter. */
export class Logging {
  readonly filter: LevelFilter;
  readonly format: LogFormat;
  /** Whether lines go to standard output, which worker threads can write to themselves. */
  readonly toStdout: boolean;
  #format: FormatLine;
  #sink: LogSink;
  #clock: Clock;
  #scopes = new Map<string, ScopeLog>();
  /** A busy proxy writes many lines in one millisecond. */
  #lastTime = Number.NaN;
  #lastStamp = '';

  /** Throws a MeshError when `level` is none. */
  constructor(options: LoggingOptions = {}) {
    this.filter = new LevelFilter(options.level ?? 'info');
    this.format = options.format ?? 'text';
    this.toStdout = options.sink === undefined;
    this.#format = this.format === 'json' ? formatJson : formatText;
    this.#sink = options.sink ?? stdoutSink();
    this.#clock = options.clock ?? systemClock;
  }

  scope(name: string): Log {
    let log = this.#scopes.get(name);
    if (!log) {
      log = new ScopeLog(this, name);
      this.#scopes.set(name, log);
    }
    return log;
  }

  /** Formats and writes without asking the filter. */
  write(level: LogLevel, scope: string, message: string, fields: LogFields | undefined): void {
    const now = this.#clock.now();
    if (now !== this.#lastTime) {
      this.#lastTime = now;
      this.#lastStamp = new Date(now).toISOString();
    }
    this.#sink.write(this.#format(this.#lastStamp, level, scope, message, fields));
  }

  /** Writes finished lines of a worker thread. */
  relay(lines: string): void {
    for (const line of lines.split('\n')) if (line !== '') this.#sink.write(`${line}\n`);
  }

  /** Writes what is buffered before the process exits. */
  flush(): void {
    this.#sink.flush?.();
  }
}

class ScopeLog implements Log {
  #logging: Logging;
  #name: string;
  #version = -1;
  #rank = 0;

  constructor(logging: Logging, name: string) {
    this.#logging = logging;
    this.#name = name;
  }

  enabled(level: LogLevel): boolean {
    const { filter } = this.#logging;
    if (this.#version !== filter.version) {
      this.#rank = filter.rankOf(this.#name);
      this.#version = filter.version;
    }
    return LevelFilter.rank(level) <= this.#rank;
  }

  error(message: string, fields?: LogFields): void {
    this.#log('error', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#log('warn', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#log('info', message, fields);
  }

  debug(message: string, fields?: LogFields): void {
    this.#log('debug', message, fields);
  }

  trace(message: string, fields?: LogFields): void {
    this.#log('trace', message, fields);
  }

  scope(name: string): Log {
    return this.#logging.scope(name);
  }

  #log(level: LogLevel, message: string, fields: LogFields | undefined): void {
    if (this.enabled(level)) this.#logging.write(level, this.#name, message, fields);
  }
}

type FormatLine = (time: string, level: LogLevel, scope: string, message: string, fields: LogFields | undefined) => string;

/** time TAB level TAB scope TAB message TAB key=value … */
export const formatText: FormatLine = (time, level, scope, message, fields) => {
  let line = `${time}\t${level}\t${scope}\t${oneLine(message)}`;
  if (!fields) return `${line}\n`;
  let separator = '\t';
  for (const key in fields) {
    const value = fields[key];
    if (value === undefined) continue;
    line += `${separator}${key}=${textValue(key, value)}`;
    separator = ' ';
  }
  return `${line}\n`;
};

/** Fields flat beside level, time, scope and message, which they cannot overwrite. */
export const formatJson: FormatLine = (time, level, scope, message, fields) => {
  const record: Record<string, unknown> = { level, time, scope, message };
  for (const key in fields) if (!(key in record)) record[key] = jsonValue(fields[key]);
  return `${JSON.stringify(record)}\n`;
};

const PLAIN = /^[\w.:/[\]-]*$/u;

/** Strings are quoted, so that spaces and line breaks in them cannot pass for fields; addresses (`…addr`) are not, as in Istio. */
function textValue(key: string, value: Exclude<LogValue, undefined>): string {
  if (value instanceof Error) return JSON.stringify(value.message);
  if (typeof value !== 'string') return String(value);
  // Nearly all values need no escape.
  if (!PLAIN.test(value)) return JSON.stringify(value);
  return key.endsWith('addr') && value !== '' && !value.includes('/') ? value : `"${value}"`;
}

function jsonValue(value: LogValue): unknown {
  if (value instanceof Error) return value.message;
  return typeof value === 'bigint' ? String(value) : value;
}

function oneLine(message: string): string {
  return /[\n\r\t]/u.test(message) ? message.replaceAll(/[\n\r\t]+/gu, ' ') : message;
}
