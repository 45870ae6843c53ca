// Which lines are written: a default level and levels per scope, set at start and changed by POST /logging (facts: ztunnel 13).
import { MeshError } from '../errors.ts';
import type { AdminResponse, AdminRoute } from './admin-server.ts';

const RANKS = { off: 0, error: 1, warn: 2, info: 3, debug: 4, trace: 5 } as const;
export type LogLevel = keyof typeof RANKS;

export const LOG_LEVELS = Object.keys(RANKS) as readonly LogLevel[];

interface Levels {
  fallback: LogLevel;
  scopes: ReadonlyMap<string, LogLevel>;
}

/** The levels of a process. `version` changes with every change, so that a scope can cache its answer. */
export class LevelFilter {
  #initial: Levels;
  #current: Levels;
  #version = 0;
  /** Called after every change. */
  onChange: () => void = () => undefined;

  /** Throws a MeshError on what `parse` refuses. */
  constructor(directives: string) {
    this.#initial = parse(directives, { fallback: 'info', scopes: new Map() });
    this.#current = this.#initial;
  }

  static rank(level: LogLevel): number {
    return RANKS[level];
  }

  get version(): number {
    return this.#version;
  }

  /** The setting of the scope wins, then that of `ztunnel`, then the default. */
  rankOf(scope: string): number {
    const { fallback, scopes } = this.#current;
    const whole = OUTSIDE_ZTUNNEL.has(scope) ? undefined : scopes.get(WHOLE);
    return RANKS[scopes.get(scope) ?? whole ?? fallback];
  }

  /** `debug`, `xds=debug,access=warn`, or both; of two for one scope the later counts. Throws a MeshError and changes nothing when a part is not understood. */
  set(directives: string): void {
    this.#current = parse(directives, this.#current);
    this.#changed();
  }

  /** As `set`, for the levels of the configuration: what `reset` goes back to. */
  begin(directives: string): void {
    this.set(directives);
    this.#initial = this.#current;
  }

  /** Back to the levels of the start. */
  reset(): void {
    this.#current = this.#initial;
    this.#changed();
  }

  #changed(): void {
    this.#version += 1;
    this.onChange();
  }

  toString(): string {
    const scopes = [...this.#current.scopes].map(([scope, level]) => `${scope}=${level}`);
    return [...scopes.sort(), this.#current.fallback].join(',');
  }
}

/** Istio's ztunnel filters by names of modules, of which all begin with its own. */
const WHOLE = 'ztunnel';

/** Scopes that are no modules there: `ztunnel=debug` leaves them alone. */
const OUTSIDE_ZTUNNEL: ReadonlySet<string> = new Set(['access', 'dns']);

/** The scope of ours that a module of Istio's ztunnel belongs to: `xds` for `ztunnel::xds::client` or `xds::client`. */
function scopeOf(module: string): string {
  const [first = '', second] = module.split('::');
  return first === WHOLE ? (second ?? WHOLE) : first;
}

function parse(directives: string, base: Levels): Levels {
  let { fallback } = base;
  const scopes = new Map(base.scopes);
  for (const part of directives.split(',').map((text) => text.trim())) {
    const [first = '', second, ...rest] = part.split('=').map((text) => text.trim());
    const level = asLevel(second ?? first);
    if (level === undefined || rest.length > 0 || (second !== undefined && !/^[\w.:-]{1,100}$/u.test(first)))
      throw new MeshError(
        'invalid_config',
        `"${part}" is not a log level: LEVEL or SCOPE=LEVEL, LEVEL being ${LOG_LEVELS.join(', ')}`,
      );
    if (second === undefined) fallback = level;
    else scopes.set(scopeOf(first), level);
  }
  return { fallback, scopes };
}

function asLevel(text: string): LogLevel | undefined {
  return LOG_LEVELS.find((level) => level === text.toLowerCase());
}

const USAGE = `usage: POST /logging lists the levels
POST /logging?level=LEVEL changes the default
POST /logging?level=SCOPE=LEVEL,SCOPE=LEVEL changes scopes
POST /logging?reset goes back to the levels of the start
LEVEL: ${LOG_LEVELS.join(', ')}
`;

/** POST /logging over a filter. */
export function loggingRoute(filter: LevelFilter): AdminRoute {
  return {
    path: '/logging',
    methods: ['POST'],
    summary: 'show or change the log levels',
    handle: ({ url }): AdminResponse => {
      const level = url.searchParams.get('level');
      try {
        if (url.searchParams.has('reset')) filter.reset();
        else if (level !== null) filter.set(level);
        else if (url.search !== '') return { status: 400, body: USAGE };
      } catch (error) {
        return { status: 400, body: `${MeshError.from(error).message}\n${USAGE}` };
      }
      return { body: `current log level is ${filter.toString()}\n` };
    },
  };
}
