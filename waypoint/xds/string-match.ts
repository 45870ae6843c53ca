// Envoy's string and header matchers as functions.
import { type HeaderMatcher, HeaderMatcherSchema } from '#shared/gen/envoy/config/route/v3/route_components_pb.ts';
import { type StringMatcher, StringMatcherSchema } from '#shared/gen/envoy/type/matcher/v3/string_pb.ts';
import { type RequestHead, someValue } from '../http/request.ts';
import { fullMatch, only, type Path } from './strict.ts';

export type StringTest = (value: string) => boolean;
export type HeaderTest = (head: RequestHead) => boolean;

export function stringTest(matcher: StringMatcher | undefined, path: Path): StringTest {
  if (!matcher) return path.refuse('is missing');
  only(StringMatcherSchema, matcher, path, ['exact', 'prefix', 'suffix', 'contains', 'safe_regex', 'ignore_case']);
  const { matchPattern, ignoreCase } = matcher;
  if (matchPattern.case === 'safeRegex') {
    const { source, flags } = fullMatch(matchPattern.value.regex, path.at('safe_regex'));
    // ignore_case has no effect on expressions, in Envoy too.
    const regex = new RegExp(source, flags);
    return (value) => regex.test(value);
  }
  if (matchPattern.case === undefined || matchPattern.case === 'custom') return path.refuse('has no pattern');
  const wanted = ignoreCase ? matchPattern.value.toLowerCase() : matchPattern.value;
  const test = plainTest(matchPattern.case, wanted);
  return ignoreCase ? (value) => test(value.toLowerCase()) : test;
}

function plainTest(kind: 'exact' | 'prefix' | 'suffix' | 'contains', wanted: string): StringTest {
  switch (kind) {
    case 'exact':
      return (value) => value === wanted;
    case 'prefix':
      return (value) => value.startsWith(wanted);
    case 'suffix':
      return (value) => value.endsWith(wanted);
    case 'contains':
      return (value) => value.includes(wanted);
  }
}

const always = (): boolean => true;

/**
 * As in Envoy: one value that matches is enough, and the inverse is the opposite of that. A header that is missing matches no value test,
 * and an inverted one unless it says otherwise.
 */
export function headerTest(matcher: HeaderMatcher, path: Path): HeaderTest {
  only(HeaderMatcherSchema, matcher, path, [
    'name',
    'string_match',
    'present_match',
    'invert_match',
    'treat_missing_header_as_empty',
  ]);
  const name = matcher.name.toLowerCase();
  const { headerMatchSpecifier: specifier, invertMatch, treatMissingHeaderAsEmpty } = matcher;
  if (specifier.case === 'stringMatch') {
    const test = stringTest(specifier.value, path.at('string_match'));
    const missing = treatMissingHeaderAsEmpty && test('');
    return (head) => (someValue(head, name, test) ?? missing) !== invertMatch;
  }
  const wanted = specifier.case === 'presentMatch' ? specifier.value : true;
  return (head) => ((someValue(head, name, always) !== undefined) === wanted) !== invertMatch;
}
