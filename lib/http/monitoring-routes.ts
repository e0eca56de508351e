/** What every API answers to those who watch it: Prometheus, and the probes of Kubernetes. */

import type { Answer, Route } from "./route.ts";

export interface Monitored {
  /** In Prometheus' text format. */
  metrics(): Promise<string>;
  /** Sentences that say why it can't be used; none when it can. */
  notReady(): readonly string[];
  /** What is ready when it is, a sentence. */
  readiness: string;
}

export const monitoringRoutes = ({ metrics, notReady, readiness }: Monitored): Route[] => [
  {
    method: "GET",
    path: "/metrics",
    summary: "Metrics for Prometheus",
    answers: { 200: "text format 0.0.4" },
    async handle() {
      return { status: 200, text: await metrics(), contentType: "text/plain; version=0.0.4; charset=utf-8" };
    },
  },
  {
    method: "GET",
    path: "/healthz",
    summary: "It answers",
    answers: { 200: "always" },
    isPublic: true,
    handle: () => json(200, { alive: true }),
  },
  {
    method: "GET",
    path: "/readyz",
    summary: readiness,
    answers: { 200: "they can", 503: "reasons says why not" },
    isPublic: true,
    handle() {
      const reasons = notReady();
      return json(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons });
    },
  },
];

const json = (status: number, value: unknown): Answer => ({ status, text: JSON.stringify(value) });
