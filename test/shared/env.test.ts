import t from 'tap';
import { EnvReader, parseBytes, parseDuration } from '#shared/env.ts';

t.test('every fault is reported at once, with variable, value and reason', async (t) => {
  const values: Record<string, string> = { WORKERS: 'x', MODE: 'odd', GRACE: '5', ON: 'maybe' };
  const env = new EnvReader((name) => values[name]);
  env.integer('WORKERS', 1, { min: 1 });
  env.oneOf('MODE', ['shared', 'dedicated'], 'shared');
  env.duration('GRACE', 5000);
  env.boolean('ON', true);
  env.required('NODE_NAME', 'the name of the node this runs on');
  t.throws(() => env.done(), {
    code: 'invalid_config',
    message: [
      'WORKERS="x": not a whole number from 1 to 9007199254740991',
      'MODE="odd": not one of shared, dedicated',
      'GRACE="5": not a duration like 250ms, 5s, 3m or 1h',
      'ON="maybe": not true or false',
      'NODE_NAME is not set: the name of the node this runs on',
    ].join('\n'),
  });
});

t.test('an empty variable is an unset one', async (t) => {
  const env = new EnvReader(() => '');
  t.equal(env.integer('WORKERS', 3), 3);
  t.equal(env.optional('X'), undefined);
  t.doesNotThrow(() => env.done());
});

t.test('durations add up', async (t) => {
  t.equal(parseDuration('1h30m'), 5_400_000);
  t.equal(parseDuration('250ms'), 250);
  t.equal(parseDuration('0.5s'), 500);
  t.equal(parseDuration('5 s'), undefined);
  t.equal(parseDuration(''), undefined);
});

t.test('bytes as Kubernetes writes them', async (t) => {
  t.equal(parseBytes('1048576'), 1_048_576);
  t.equal(parseBytes('512Mi'), 512 * 1024 * 1024);
  t.equal(parseBytes('1.5Gi'), 1.5 * 1024 ** 3);
  t.equal(parseBytes('500M'), 500_000_000);
  for (const wrong of ['', '-1', '5 Mi', '5mb', '1e3']) t.equal(parseBytes(wrong), undefined, wrong);
  const env = new EnvReader(() => 'much');
  t.equal(env.bytes('MAX_MEMORY', 7), 7);
  t.throws(() => env.done(), { message: 'MAX_MEMORY="much": not a number of bytes like 512Mi, 1Gi or 500M' });
});
