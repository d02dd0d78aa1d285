export interface AptCommand {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

export function installCommands(packages: readonly string[]): AptCommand[];

export function forbidServiceStarts(): () => void;
