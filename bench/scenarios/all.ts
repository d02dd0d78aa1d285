import { capture } from './capture.ts';
import { drain } from './drain.ts';
import { memory } from './memory.ts';
import { scale } from './scale.ts';
import type { Scenario } from './scenario.ts';
import { spike } from './spike.ts';
import { start } from './start.ts';

/** In the order in which they run. */
export const SCENARIOS: readonly Scenario[] = [capture, drain, memory, spike, scale, start];
