// Takes connections and never reads from them: what is sent to it stays on its way. `silent-server.ts PORT`, prints `ready`.
import net from 'node:net';

const [port = '0'] = process.argv.slice(2);
net
  .createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
  })
  .listen({ port: Number(port), backlog: 4096 }, () => process.stdout.write('ready\n'));
