/** Visibility map and free space map. */

import { writeFile } from "node:fs/promises";
import { CATCHERS } from "../catchers.ts";
import { inArea } from "../kind.ts";
import { changeBlock, flip } from "../pages.ts";

const { checksums, maps, heap } = CATCHERS;

/** After its header a page of the map has two bits for each block: all-visible and all-frozen. */
const MAP = 24;

export const mapKinds = inArea("maps", [
  {
    name: "visibility map: blocks with deleted rows called all-visible, checksum right",
    damage: async (instance) =>
      changeBlock(`${await instance.relation("lab.things").file}_vm`, 0, "right", (page) =>
        page.fill(0x55, MAP, MAP + 20),
      ),
    caughtBy: [...maps, ...heap],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "visibility map: blocks called all-frozen that are not, checksum right",
    damage: async (instance) =>
      changeBlock(`${await instance.relation("lab.ledger").file}_vm`, 0, "right", (page) =>
        page.fill(0xff, MAP, MAP + 10),
      ),
    caughtBy: [...maps, ...heap],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "visibility map: as it was some time ago",
    damage: async (instance) => {
      const { path, file } = instance.relation("lab.moving");
      await writeFile(`${await file}_vm`, instance.golden.old.get(`${path}_vm`) ?? "");
    },
    caughtBy: [...maps, ...heap],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "visibility map: a bit flipped, checksum stale",
    damage: async (instance) =>
      changeBlock(`${await instance.relation("lab.ledger").file}_vm`, 0, "stale", (page) => flip(page, MAP + 2)),
    caughtBy: [...checksums, ...maps],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "free space map: a bit flipped, checksum stale",
    damage: async (instance) =>
      changeBlock(`${await instance.relation("lab.ledger").file}_fsm`, 0, "stale", (page) => flip(page, 100)),
    caughtBy: checksums,
    level: "full",
    withoutReceipt: "full",
  },
]);
