// Opens connections and keeps them, idle. `idle-connections.ts IP PORT COUNT…`, prints `ready`, then on each SIGUSR2 opens the next COUNT
// more and prints how many there are now.
import { once } from 'node:events';
import net from 'node:net';

const [ip = '127.0.0.1', port = '0', ...counts] = process.argv.slice(2);
/** At a time, so that no queue of a listener overflows. */
const PARALLEL = 16;
const sockets: net.Socket[] = [];

process.on('SIGUSR2', () => void openNext());
setInterval(() => undefined, 1 << 30);
process.stdout.write('ready\n');

async function openNext(): Promise<void> {
  let left = Number(counts.shift() ?? 0);
  const worker = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await open();
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  process.stdout.write(`${sockets.length}\n`);
}

/** One byte goes to the other end: a proxy has opened the way by the time that it may be sent. */
async function open(): Promise<void> {
  const socket = net.connect({ host: ip, port: Number(port) });
  await once(socket, 'connect');
  socket.write('x');
  sockets.push(socket);
}
