// Says who answers and what arrived; with TLS, behind a certificate of its own. Anything that wants to upgrade may.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { hostname } from 'node:os';

const { NAME, TLS } = process.env;
const pem = (name) => readFileSync(`/run/secrets/${name}`);
const server = TLS ? createTlsServer({ cert: pem('tls_cert'), key: pem('tls_key') }) : createServer();
server.on('request', ({ url, headers }, answer) => {
  answer.setHeader('content-type', 'application/json');
  answer.end(JSON.stringify({ name: NAME, task: hostname(), url, headers }));
});
server.on('upgrade', (_, socket) => {
  socket.end('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello');
});
process.on('SIGTERM', () => process.exit());
server.listen(8000);
