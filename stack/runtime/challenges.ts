/** A service that shows its challenge on a page and confirms to the issuer that it was solved. */
export interface ChallengeService {
  /** Confirms an answer; `SITEVERIFY_URL` overrides it. */
  readonly verifyUrl: string;
  /** How an answer is sent to `verifyUrl`: the secret as a field of the form, or as the header `X-API-Key`. */
  readonly secretIn: 'form' | 'header';
  /** Whether `verifyUrl` compares the sitekey, if it gets one. */
  readonly takesSitekey: boolean;
  /** The script of the widget, and the class of the element that it fills. */
  readonly script: string;
  readonly isModule: boolean;
  readonly widgetClass: string;
  /** The name of the hidden input in which the widget leaves the answer. */
  readonly answerField: string;
  /** Content-Security-Policy sources of the widget: its script, frames, styles and requests. */
  readonly sources: readonly string[];
}

const FRIENDLY_CAPTCHA_SCRIPT = 'https://cdn.jsdelivr.net/npm/@friendlycaptcha/sdk@1.0.2/site.min.js';

/**
 * The services that `CHALLENGE` can name, as their documentation describes them:
 * developers.cloudflare.com/turnstile, docs.hcaptcha.com, developer.friendlycaptcha.com (version 2).
 */
export const CHALLENGE_SERVICES = {
  turnstile: {
    verifyUrl: 'https://challenges.cloudflare.com/turnstile/v0/siteverify',
    secretIn: 'form',
    takesSitekey: false,
    script: 'https://challenges.cloudflare.com/turnstile/v0/api.js',
    isModule: false,
    widgetClass: 'cf-turnstile',
    answerField: 'cf-turnstile-response',
    sources: ['https://challenges.cloudflare.com'],
  },
  hcaptcha: {
    verifyUrl: 'https://api.hcaptcha.com/siteverify',
    secretIn: 'form',
    takesSitekey: true,
    script: 'https://js.hcaptcha.com/1/api.js',
    isModule: false,
    widgetClass: 'h-captcha',
    answerField: 'h-captcha-response',
    sources: ['https://hcaptcha.com', 'https://*.hcaptcha.com'],
  },
  friendlycaptcha: {
    verifyUrl: 'https://global.frcapi.com/api/v2/captcha/siteverify',
    secretIn: 'header',
    takesSitekey: true,
    script: FRIENDLY_CAPTCHA_SCRIPT,
    isModule: true,
    widgetClass: 'frc-captcha',
    answerField: 'frc-captcha-response',
    // The exact script: its origin serves every npm package.
    sources: [FRIENDLY_CAPTCHA_SCRIPT, 'https://global.frcapi.com'],
  },
} as const satisfies Readonly<Record<string, ChallengeService>>;

/** The challenge of the setting `CHALLENGE`. */
export interface Challenge {
  readonly service: ChallengeService;
  /** Identifies this site to the service; public. */
  readonly sitekey: string;
}
