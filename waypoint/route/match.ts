// Envoy's RouteMatch as a function of the request head. The cheapest test runs first.
import {
  type QueryParameterMatcher,
  QueryParameterMatcherSchema,
  type RouteMatch,
  RouteMatchSchema,
} from '#shared/gen/envoy/config/route/v3/route_components_pb.ts';
import { pathOnly, type RequestHead } from '../http/request.ts';
import { headerTest, stringTest } from '../xds/string-match.ts';
import { fullMatch, only, type Path } from '../xds/strict.ts';

type RequestTest = (head: RequestHead) => boolean;

const SUPPORTED = ['prefix', 'path', 'safe_regex', 'path_separated_prefix', 'case_sensitive', 'headers', 'query_parameters'];

export function requestTest(match: RouteMatch | undefined, path: Path): RequestTest {
  if (!match) return path.refuse('is missing');
  only(RouteMatchSchema, match, path, SUPPORTED);
  const tests: RequestTest[] = [pathTest(match, path)];
  for (const [index, matcher] of match.headers.entries()) tests.push(headerTest(matcher, path.at('headers', index)));
  if (match.queryParameters.length > 0) tests.push(queryTest(match.queryParameters, path));
  const [only1] = tests;
  return only1 && tests.length === 1 ? only1 : (head) => tests.every((test) => test(head));
}

function pathTest(match: RouteMatch, path: Path): RequestTest {
  const { pathSpecifier: specifier, caseSensitive = true } = match;
  const fold = (text: string): string => (caseSensitive ? text : text.toLowerCase());
  switch (specifier.case) {
    case 'prefix': {
      const prefix = fold(specifier.value);
      return prefix === '/' ? (head) => head.path.startsWith('/') : (head) => fold(head.path).startsWith(prefix);
    }
    case 'path': {
      const wanted = fold(specifier.value);
      return (head) => fold(pathOnly(head.path)) === wanted;
    }
    case 'pathSeparatedPrefix': {
      const prefix = fold(specifier.value);
      return (head) => {
        const given = fold(pathOnly(head.path));
        return given.startsWith(prefix) && (given.length === prefix.length || given[prefix.length] === '/');
      };
    }
    case 'safeRegex': {
      const regex = fullMatch(specifier.value.regex, path.at('safe_regex'));
      return (head) => regex.test(pathOnly(head.path));
    }
    default:
      return path.refuse('needs a path, prefix or safe_regex');
  }
}

function queryTest(matchers: readonly QueryParameterMatcher[], path: Path): RequestTest {
  const tests = matchers.map((matcher, index) => {
    const at = path.at('query_parameters', index);
    only(QueryParameterMatcherSchema, matcher, at, ['name', 'string_match', 'present_match']);
    const { name, queryParameterMatchSpecifier: specifier } = matcher;
    if (specifier.case === 'stringMatch') {
      const test = stringTest(specifier.value, at.at('string_match'));
      return { name, test: (value: string | undefined) => value !== undefined && test(value) };
    }
    const wanted = specifier.case === 'presentMatch' ? specifier.value : true;
    return { name, test: (value: string | undefined) => (value !== undefined) === wanted };
  });
  return (head) => {
    const query = queryOf(head.path);
    return tests.every(({ name, test }) => test(query.get(name)));
  };
}

/** Parameters as they came, escapes and all, as Envoy compares them; of several the first counts. */
function queryOf(path: string): Map<string, string> {
  const parameters = new Map<string, string>();
  const start = path.indexOf('?');
  if (start === -1) return parameters;
  for (const part of path.slice(start + 1).split('&')) {
    const end = part.indexOf('=');
    const name = end === -1 ? part : part.slice(0, end);
    if (!parameters.has(name)) parameters.set(name, end === -1 ? '' : part.slice(end + 1));
  }
  return parameters;
}
