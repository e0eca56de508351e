/** What the checks of the data want to know of each database beforehand. */

import type { Database } from "../io/database.ts";
import type { Check } from "./check.ts";
import type { Relation } from "./relations.ts";

/** What was planned for a database; throws what kept it from that. */
export type Planned<Plan> = (database: string) => Plan;

export class Plans {
  private readonly plans: ReadonlyMap<Check, Map<string, { plan: unknown } | { error: unknown }>>;

  constructor(checks: readonly Check[]) {
    this.plans = new Map(checks.filter(({ plan }) => plan !== undefined).map((check) => [check, new Map()]));
  }

  /** Never rejects: a check that cannot be planned does not keep others from theirs. */
  async make(name: string, database: Database, relations: readonly Relation[]): Promise<void> {
    for (const [check, plans] of this.plans) {
      try {
        plans.set(name, { plan: await check.plan?.(database, relations) });
      } catch (error) {
        plans.set(name, { error });
      }
    }
  }

  of(check: Check): Planned<unknown> {
    return (name) => {
      const made = this.plans.get(check)?.get(name);
      if (made === undefined) throw new Error(`nothing was planned for ${name}`);
      if ("error" in made) throw made.error;
      return made.plan;
    };
  }
}
