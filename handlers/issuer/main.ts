import { createAdminApp } from '#runtime/admin.ts';
import type { Challenge } from '#runtime/challenges.ts';
import { readConfig, settings } from '#runtime/config.ts';
import { createMetrics } from '#runtime/metrics.ts';
import { runProcess } from '#runtime/process.ts';
import { Readiness } from '#runtime/readiness.ts';
import { ACCEPTORS_FOR_A_CROWD, listen } from '#runtime/server.ts';
import { createVoterTokens } from '../vote/voter.ts';
import { RateLimit } from '../web/rate.ts';
import { createIssuerApp } from './app.ts';
import { createJwtCheck } from './checks/jwt.ts';
import { createSiteverifyCheck } from './checks/siteverify.ts';
import { createIssuerMetrics } from './metrics.ts';

/** Of `TOKEN_RATE_MAX`. */
const TOKEN_RATE_WINDOW_MS = 10_000;

const SETTINGS = {
  port: settings.port(8085),
  adminPort: settings.adminPort(9085),
  voterKeys: settings.voterKeys,
  tokenOrigins: settings.tokenOrigins,
  tokenRateMax: settings.tokenRateMax,
  receiptsUrl: settings.receiptsUrl,
  logLevel: settings.logLevel,
};

await runProcess('issuer', async ({ log, shutdown }) => {
  const { challenge } = readConfig({ challenge: settings.challenge });
  const { check, ...config } = challenge ? readForChallenge(challenge) : readForJwt();
  log.setLevel(config.logLevel);

  const readiness = new Readiness('server');
  const registry = createMetrics('issuer', readiness);
  const admin = await listen(createAdminApp(readiness, registry), config.adminPort);
  shutdown.defer('close the admin port', admin.close);

  const rate = new RateLimit({ perWindowMax: config.tokenRateMax, windowMs: TOKEN_RATE_WINDOW_MS });
  const app = createIssuerApp({
    tokens: createVoterTokens(...config.voterKeys),
    check,
    isWithinRate: (address) => rate.count(address),
    origins: config.tokenOrigins,
    resultsUrl: config.receiptsUrl,
    log,
    ...createIssuerMetrics(registry),
  });
  const server = await listen(app, config.port, { acceptors: ACCEPTORS_FOR_A_CROWD });
  shutdown.defer('finish open requests', server.close);
  shutdown.defer('take no more work', () => readiness.notReady('server', 'stopping'));
  readiness.ready('server');
  log.info('listening', { port: server.port, check: challenge ? 'challenge' : 'jwt' });
});

function readForChallenge(challenge: Challenge) {
  const { siteverifySecret, siteverifyUrl } = settings;
  const config = readConfig({ ...SETTINGS, siteverifySecret, siteverifyUrl });
  const check = createSiteverifyCheck({
    challenge,
    secret: config.siteverifySecret,
    url: config.siteverifyUrl,
  });
  return { ...config, check };
}

function readForJwt() {
  const { jwtKeys, jwtIssuer, jwtAudience } = settings;
  const config = readConfig({ ...SETTINGS, jwtKeys, jwtIssuer, jwtAudience });
  return { ...config, check: createJwtCheck(config) };
}
