// When connections begin to work. Runs in the network of a client's pod: `first-bytes.ts IP PORT PAUSE`. Opens a new connection every
// PAUSE ms, whatever has become of those before, and asks for a byte. Prints `ready`, then a line of JSON for each answer that came
// after none: `{"asked": …, "answered": …}`, both in ms since the epoch.
import { connect } from 'node:net';

const [host = '127.0.0.1', port = '80', pause = '10'] = process.argv.slice(2);
/** A connection that waits for longer is given up, ms. */
const PATIENCE = 5000;

const options = { host, port: Number(port) };
const request = `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
let works = false;
/** When the last connection that failed was opened. */
let failed = -Infinity;

process.stdout.write('ready\n');
setInterval(attempt, Number(pause));

function attempt(): void {
  const asked = performance.timeOrigin + performance.now();
  const socket = connect(options, () => socket.write(request));
  let answered = false;
  socket.setTimeout(PATIENCE, () => socket.destroy());
  socket.once('data', () => {
    answered = true;
    // One of before the failure that has its answer late proves nothing.
    if (!works && asked > failed)
      process.stdout.write(`${JSON.stringify({ asked, answered: performance.timeOrigin + performance.now() })}\n`);
    works ||= asked > failed;
    socket.destroy();
  });
  socket.on('error', () => undefined);
  socket.once('close', () => {
    if (answered) return;
    works = false;
    failed = Math.max(failed, asked);
  });
}
