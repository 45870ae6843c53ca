import t from 'tap';
import { seqpacketSuite } from './suite/seqpacket.ts';

t.test('messages over Unix sockets', async (t) => seqpacketSuite(t));
