import type { Content, HandlerApi } from './operation.ts';

const CREDENTIAL: Content = {
  schema: 'Credential',
  example: { credential: 'eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmVk' },
};

export const ISSUER: HandlerApi = {
  name: 'issuer',
  description:
    'Issues voter tokens where VOTER_ADMISSION is "issued". It shares the host of the vote handler.',
  port: 8085,
  operations: [
    {
      method: 'post',
      path: '/tokens',
      id: 'issueToken',
      summary: 'Get a voter token',
      description:
        'Checks a JWT of the configured provider, or the answer to the challenge on the page. One login is one voter, however often it asks. A browser form, which accepts text/html, gets a redirect to the first poll instead of 201.',
      security: ['none', 'voterCookie'],
      body: { 'application/json': CREDENTIAL, 'application/x-www-form-urlencoded': CREDENTIAL },
      answers: {
        201: {
          description: 'The token, also as the voter cookie.',
          headers: ['Cache-Control', 'Set-Cookie'],
          content: {
            'application/json': {
              schema: 'IssuedToken',
              example: { token: 'AgGQ8mKxQXKZn0c3u5w1Y2cABjv1ZsT0AAAA' },
            },
          },
        },
        303: {
          description: 'The voter cookie is set. Location is the page of the first poll.',
          headers: ['Cache-Control', 'Location', 'Set-Cookie'],
        },
      },
      problems: [
        'malformed',
        'bad_credentials',
        'cross_site',
        'method_not_allowed',
        'too_large',
        'unsupported_media_type',
        'too_many',
        'not_issued',
      ],
    },
  ],
};
