import { Counter, type Registry } from '@prometheus-io/client';
import { ISSUER_PROBLEMS, type IssuerProblemCode } from './problem.ts';

interface IssuerMetrics {
  readonly onToken: () => void;
  readonly onProblem: (code: IssuerProblemCode) => void;
}

/** Creates the metrics of the issuer. */
export function createIssuerMetrics(registry: Registry): IssuerMetrics {
  const registers = [registry];
  const tokens = new Counter({ name: 'turnout_tokens_issued_total', help: 'Voter tokens issued', registers });
  const problems = new Counter({
    name: 'turnout_issuer_problems_total',
    help: 'Requests answered with a problem, by code',
    labelNames: ['code'],
    registers,
  });
  for (const code of ISSUER_PROBLEMS) problems.inc({ code }, 0);
  return {
    onToken: () => tokens.inc(),
    onProblem: (code) => problems.inc({ code }),
  };
}
