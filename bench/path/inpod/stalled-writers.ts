// Connections to a server that never reads: each writes until nothing more is taken from it. `stalled-writers.ts IP PORT COUNT` prints
// `ready` when all are open, starts to write on SIGUSR2, and prints the bytes that were taken of all of them when none has moved for a while,
// or after 15 s.
import { once } from 'node:events';
import net from 'node:net';

const [ip = '127.0.0.1', port = '0', count = '20'] = process.argv.slice(2);
const CHUNK = Buffer.alloc(64 * 1024);
/** Without progress for so long, ms, they are blocked. */
const BLOCKED_AFTER = 700;
const LONGEST = 15_000;

let taken = 0;
let lastProgress = 0;

const sockets = await Promise.all(Array.from({ length: Number(count) }, open));
process.on('SIGUSR2', start);
process.stdout.write('ready\n');

async function open(): Promise<net.Socket> {
  const socket = net.connect({ host: ip, port: Number(port) });
  await once(socket, 'connect');
  return socket;
}

function start(): void {
  const started = performance.now();
  lastProgress = started;
  for (const socket of sockets) writeOn(socket);
  const watch = setInterval(() => {
    const now = performance.now();
    if (now - lastProgress < BLOCKED_AFTER && now - started < LONGEST) return;
    clearInterval(watch);
    process.stdout.write(`${taken}\n`);
  }, 50);
}

/** The next chunk when the kernel has taken this one. */
function writeOn(socket: net.Socket): void {
  socket.write(CHUNK, (error) => {
    if (error) throw error;
    taken += CHUNK.length;
    lastProgress = performance.now();
    writeOn(socket);
  });
}
