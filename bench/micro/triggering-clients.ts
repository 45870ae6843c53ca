// The other end of bench/micro/triggering.ts: `triggering-clients.ts LOAD PORT SECONDS`.
import { connect } from 'node:net';

const [load = 'messages', port = '0', seconds = '1'] = process.argv.slice(2);
const CONNECTIONS = load === 'messages' ? 16 : 4;
const MESSAGE = Buffer.alloc(64);
const BULK = Buffer.alloc(256 * 1024);

for (let i = 0; i < CONNECTIONS; i++) {
  const socket = connect(Number(port), '127.0.0.1');
  const fill = (): void => {
    while (socket.writable && socket.write(BULK));
  };
  socket.on('connect', () => {
    setTimeout(() => socket.destroy(), Number(seconds) * 1000);
    if (load === 'messages') socket.write(MESSAGE);
    else fill();
  });
  socket.on('data', () => socket.writable && socket.write(MESSAGE));
  socket.on('drain', () => load === 'bulk' && fill());
  socket.on('error', () => undefined);
}
