import { expect, test } from 'vitest';
import { accentStyle, STYLE } from '#handlers/web/style.ts';
import { contrastOf } from '#runtime/contrast.ts';
import { SURFACES } from '#runtime/polls.ts';

const CONTRAST_MIN = 4.5;
/** 17³ colours. */
const CHANNELS = Array.from({ length: 17 }, (_, n) =>
  Math.min(255, n * 16)
    .toString(16)
    .padStart(2, '0'),
);
const COLOURS = CHANNELS.flatMap((r) => CHANNELS.flatMap((g) => CHANNELS.map((b) => `#${r}${g}${b}`)));

/** Returns the variables of a theme, by name. */
function variablesOf(theme: 'light' | 'dark'): Map<string, string> {
  const [light = '', dark = ''] = STYLE.split('@media (prefers-color-scheme: dark)');
  const text = theme === 'light' ? light : dark.slice(0, dark.indexOf('}'));
  return new Map(
    [...text.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map(([, name = '', value = '']) => [name, value]),
  );
}

test.each(['light', 'dark'] as const)('whatever the %s page draws on or in an accent is legible', (theme) => {
  const variables = variablesOf(theme);
  const admitted = COLOURS.filter((colour) => contrastOf(colour, SURFACES[theme]) >= CONTRAST_MIN);
  expect(admitted.length).toBeGreaterThan(100);
  for (const name of ['accent-ink', 'paper', 'card']) {
    const value = variables.get(name) ?? '';
    expect(value, name).toMatch(/^#/);
    const lowest = Math.min(...admitted.map((colour) => contrastOf(colour, value)));
    expect(lowest, name).toBeGreaterThanOrEqual(CONTRAST_MIN);
  }
  const surfaces = ['paper', 'card', 'accent-soft', 'glow'].map((name) => variables.get(name) ?? '');
  for (const surface of surfaces) {
    expect(contrastOf(variables.get('accent') ?? '', surface)).toBeGreaterThanOrEqual(CONTRAST_MIN);
  }
});

test("a poll's accent replaces that of both themes, and the tints of it", () => {
  const rules = accentStyle({ light: '#112233', dark: '#ddeeff' });
  const [light = '', dark = ''] = rules.split('@media (prefers-color-scheme: dark)');
  expect(light).toContain('--accent: #112233;');
  expect(dark).toContain('--accent: #ddeeff;');
  for (const tint of ['accent-soft', 'glow', 'rest'])
    expect(light).toMatch(new RegExp(`--${tint}: var\\(--`));
});
