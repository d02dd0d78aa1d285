import type { Challenge } from '#runtime/challenges.ts';

/** Longer than the issuer takes to answer. */
const TOKEN_MS_MAX = 8_000;
/** Longer than the handler and the proxy take to answer. */
const ANSWER_MS_MAX = 15_000;
/** With the pauses between them, attempts go on for about two minutes. */
const ATTEMPTS_MAX = 8;
const PAUSE_MS_MAX = 30_000;

/** Pause before the first look whether the poll has opened or closed, times 0.5 to 1.5: the crowd does not come in one second. */
const CHANGE_MS = 2_000;
/** Pause between later ones, each twice as long as the one before. A device whose clock is ahead asks for hours. */
const CHANGE_MS_MAX = 60_000;
/** Units of the countdown and their lengths in seconds. A unit is shown from two of it on. */
const UNITS = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
];

/**
 * Returns the script of a voting page. The form works without it; with it
 *
 * - a vote is sent in place, and repeated while nobody answers or the answer is that it is not captured; all attempts of a device have
 *   one idempotency key, so that they are of one voter,
 * - one vote is in flight at a time, so that the last choice is the last one to arrive,
 * - the device remembers its choice and the receipt,
 * - the time at which the poll opens or closes is in the reader's own zone, and once it has passed, the page of the new phase replaces
 *   this one as soon as a handler has it; clocks differ, and an operator may have moved the time,
 * - a vote that is refused is left to the form, whose page says why. Not after any other answer: an attempt before may be captured, and
 *   the form sends no key.
 */
export function votingScript(challenge?: Challenge): string {
  return `
const form = document.querySelector('.choices');
const status = document.querySelector('#status');
const buttons = [...form.querySelectorAll('button')];
const choiceName = 'turnout-choice ' + form.dataset.poll;
const recall = (name) => {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
};
const remember = (name, value) => {
  try {
    localStorage.setItem(name, value);
  } catch {}
  return value;
};
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
const key = recall('turnout-key') ?? remember('turnout-key', newKey());
const isOpen = form.dataset.phase === 'open';
const receipt = document.querySelector('#receipt');
const receiptName = 'turnout-receipt ' + form.dataset.poll;
const say = (text, kind, choice) => {
  status.textContent = text + ' ';
  status.lang = kind === 'success' && form.dataset.thanks ? document.documentElement.lang : 'en';
  if (choice) {
    const label = document.createElement('strong');
    label.textContent = choice.textContent;
    status.append(label);
  }
  status.className = 'notice ' + kind;
  status.hidden = false;
};
const show = (chosen) => {
  for (const button of buttons) button.setAttribute('aria-pressed', String(button === chosen));
  say(form.dataset.thanks || 'Your vote is in:', 'success', chosen);
  if (!form.dataset.thanks) status.append(isOpen ? '. You can still change it.' : '.');
  const [name, address] = recall(receiptName)?.split(' ') ?? [];
  if (!name) return;
  const link = receipt.querySelector('a');
  link.textContent = name;
  if (address) link.href = address;
  receipt.hidden = false;
};
const known = buttons.find(({ value }) => value === recall(choiceName));
if (known && status.hidden) show(known);

const pause = (ms) =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
    addEventListener('online', resolve, { once: true });
  });
const send = async (choice) => {
  try {
    const answer = await fetch(form.action, {
      method: 'POST',
      headers: { Accept: 'application/json', 'Idempotency-Key': key },
      body: new URLSearchParams({ choice: choice.value }),
      signal: AbortSignal.timeout(${ANSWER_MS_MAX}),
    });
    const { status, headers } = answer;
    const { receipt } = status === 202 ? await answer.json() : {};
    return { status, receipt, address: headers.get('location') ?? '', seconds: Number(headers.get('retry-after')) };
  } catch {
    return { status: 0, seconds: 0 };
  }
};
${challenge ? tokenScript(challenge) : 'const getToken = () => {};'}
let wanted;
let isPlain = false;
const vote = async () => {
  await getToken();
  for (let attempt = 1; ; attempt++) {
    const choice = wanted;
    say('Sending your vote:', 'waiting', choice);
    const { status, receipt, address, seconds } = await send(choice);
    if (status === 202) {
      remember(choiceName, choice.value);
      remember(receiptName, receipt + ' ' + address);
      if (wanted === choice) return show(choice);
      attempt = 0;
    } else if (status >= 400 && status < 500 && status !== 408 && status !== 429) {
      isPlain = true;
      return form.requestSubmit(choice);
    } else {
      if (attempt === ${ATTEMPTS_MAX}) return say('Your vote could not be sent. Please try again in a minute:', 'error', wanted);
      say(navigator.onLine ? 'Many people are voting right now. Trying again:' : 'You are offline. Your vote will be sent when you are back:', 'waiting', wanted);
      await pause(Math.max(seconds * 1000, Math.min(${PAUSE_MS_MAX}, 500 * 2 ** attempt)) * (0.5 + Math.random()));
    }
  }
};
form.addEventListener('submit', async (event) => {
  if (isPlain) return;
  event.preventDefault();
  const isSending = wanted !== undefined;
  wanted = event.submitter ?? buttons[0];
  if (isSending) return;
  await vote();
  wanted = undefined;
});

const change = document.querySelector('time');
const lang = document.documentElement.lang;
const countdown = document.querySelector('#countdown');
const relative = new Intl.RelativeTimeFormat(lang);
const countDown = () => {
  const seconds = Math.ceil((Date.parse(change.dateTime) - Date.now()) / 1000);
  if (seconds <= 0) {
    countdown.textContent = '';
    return awaitChange(${CHANGE_MS});
  }
  const [unit, length] = ${JSON.stringify(UNITS)}.find(([, length]) => seconds >= 2 * length) ?? ['second', 1];
  countdown.textContent = ' (' + relative.format(Math.floor(seconds / length), unit) + ')';
  setTimeout(countDown, 1000);
};
const awaitChange = async (ms) => {
  await pause(ms * (0.5 + Math.random()));
  const path = '/polls/' + form.dataset.poll;
  try {
    const answer = await fetch(path + '.json', { signal: AbortSignal.timeout(${ANSWER_MS_MAX}) });
    if (!answer.ok) throw answer;
    const { phase, opensAt, closesAt } = await answer.json();
    const at = phase === 'not open' ? opensAt : closesAt;
    if ((phase !== form.dataset.phase || at !== change.dateTime) && !wanted) return location.replace(path);
  } catch {}
  awaitChange(Math.min(${CHANGE_MS_MAX}, ms * 2));
};
if (change) {
  change.textContent = new Intl.DateTimeFormat(lang, { dateStyle: 'long', timeStyle: 'short' }).format(Date.parse(change.dateTime));
  countDown();
}
`;
}

/**
 * Exchanges the answer of a challenge for a token, which the issuer sets as the voter's cookie. Whatever happens, the vote is sent
 * then, and its answer says what is wrong.
 *
 * Friendly Captcha's input holds a text that begins with a dot until the challenge is solved.
 */
function tokenScript({ service }: Challenge): string {
  return `
const getToken = async () => {
  const input = document.querySelector('[name="${service.answerField}"]');
  if (!input?.value || input.value.startsWith('.')) return;
  const body = new URLSearchParams({ credential: input.value });
  // An answer is good for one token.
  input.value = '';
  await fetch('/tokens', { method: 'POST', body, signal: AbortSignal.timeout(${TOKEN_MS_MAX}) }).catch(() => {});
};`;
}
