// Responds with its name and the request it got, with TLS if configured, and accepts every upgrade.
import { createHash } from 'node:crypto';
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
server.on('upgrade', ({ headers }, socket) => {
  // RFC 6455, 4.2.2
  const key = `${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  const accept = `sec-websocket-accept: ${createHash('sha1').update(key).digest('base64')}`;
  const head = [
    'HTTP/1.1 101 Switching Protocols',
    'connection: upgrade',
    'upgrade: websocket',
    accept,
    '',
    '',
  ];
  socket.end(`${head.join('\r\n')}hello`);
});
process.on('SIGTERM', () => process.exit());
server.listen(8000);
