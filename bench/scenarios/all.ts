import { capture } from './capture.ts';
import { coordinate } from './coordinate.ts';
import { drain } from './drain.ts';
import { fold } from './fold.ts';
import { memory } from './memory.ts';
import { proxy } from './proxy.ts';
import { scale } from './scale.ts';
import type { Scenario } from './scenario.ts';
import { self } from './self.ts';
import { spike } from './spike.ts';
import { start } from './start.ts';
import { steady } from './steady.ts';
import { viewers } from './viewers.ts';

/** In the order in which they run. */
export const SCENARIOS: readonly Scenario[] = [
  self,
  steady,
  capture,
  proxy,
  drain,
  coordinate,
  memory,
  fold,
  viewers,
  spike,
  scale,
  start,
];
