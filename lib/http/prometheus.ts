/** Metrics for Prometheus, in its text format. */

import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";

export type { Counter, Gauge };

export type MakeGauge = (
  name: string,
  help: string,
  labelNames: readonly string[],
  /** Called each time the metrics are asked for, with a gauge that holds nothing. */
  collect: (gauge: Gauge<string>) => void,
) => void;

export interface Metrics {
  gauge: MakeGauge;
  counter(name: string, help: string, labelNames: readonly string[]): Counter<string>;
  text(): Promise<string>;
}

/** With those of Node.js itself. */
export function openMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return {
    gauge(name, help, labelNames, collect) {
      new Gauge({
        name,
        help,
        labelNames: [...labelNames],
        registers: [registry],
        collect() {
          this.reset();
          collect(this);
        },
      });
    },
    counter: (name, help, labelNames) =>
      new Counter({ name, help, labelNames: [...labelNames], registers: [registry] }),
    text: () => registry.metrics(),
  };
}
