import { createServer } from 'node:http';
import { readConfig, settings } from '#runtime/config.ts';
import { CAST_AT, RECEIPT } from './server.ts';

/** The upper bound without a framework: `node:http` parses the vote and stores nothing. */
const { port } = readConfig({ port: settings.port(8080) });

createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (text: string) => {
    body += text;
  });
  request.on('end', () => {
    const { choice } = JSON.parse(body) as { choice: string };
    const poll = request.url?.split('/')[2];
    const answer = JSON.stringify({ status: 'accepted', poll, choice, castAt: CAST_AT, receipt: RECEIPT });
    response.writeHead(202, { 'Content-Type': 'application/json', 'Content-Length': answer.length });
    response.end(answer);
  });
}).listen(port, '127.0.0.1');
