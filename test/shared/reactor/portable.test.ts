// The portable backend against the rules of shared/reactor/api.ts.
import t from 'tap';
import { createReactor } from '#shared/reactor/create.ts';
import { cipherSuite } from './suite/ciphers.ts';
import { faultSuite } from './suite/faults.ts';
import { fairSuite } from './suite/fair.ts';
import { idleSuite } from './suite/idle.ts';
import { netnsSuite } from './suite/netns.ts';
import { randomSuite } from './suite/random.ts';
import { socketSuite } from './suite/sockets.ts';
import { streamSuite } from './suite/streams.ts';
import { threadSuite } from './suite/threads.ts';
import { tlsSuite } from './suite/tls.ts';

const create = () => createReactor({ backend: 'portable' });

t.test('streams', async (t) => streamSuite(t, create));
t.test('any order', async (t) => randomSuite(t, create));
t.test('faults', async (t) => faultSuite(t, (onFault) => createReactor({ backend: 'portable', onFault })));
t.test('sockets', async (t) => socketSuite(t, create));
t.test('network namespaces', async (t) => netnsSuite(t, create));
t.test('handshakes', async (t) => tlsSuite(t, create));
t.test('ciphers and groups', async (t) => cipherSuite(t, create));
t.test('fairness', async (t) => fairSuite(t, create, { skipAccepts: 'libuv accepts until nobody waits' }));
t.test('idleness', async (t) => idleSuite(t, create));
t.test('threads', async (t) => threadSuite(t, create));
