import { type ParseArgsConfig, parseArgs } from 'node:util';
import { StartError } from './errors.ts';

/**
 * Parses a command line as `parseArgs` of `node:util` does.
 *
 * @throws StartError in one line that refers to `--help`
 */
export function parseArguments<T extends Omit<ParseArgsConfig, 'args'>>(args: readonly string[], config: T) {
  try {
    return parseArgs({ ...config, args: [...args] });
  } catch (error) {
    // The first sentence names the fault; the rest explains how to pass a value that begins with a dash.
    const [first = ''] = (error as Error).message.split(/\. |\n/);
    throw new StartError(`${first.replace(/\.$/, '')} (see --help)`);
  }
}

/**
 * Parses the value of an option as a whole number from `min` to `max`.
 *
 * @throws StartError in one line
 */
export function parseWholeNumber(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) {
    throw new StartError(
      `${option} must be a whole number from ${min} to ${max}, not "${text}" (see --help)`,
    );
  }
  return value;
}
