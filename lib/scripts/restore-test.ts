import type { Script } from "../cli.ts";
import { RESTORE_TEST_OPTIONS, type RestoreTestOption } from "../restore-test/options.ts";

export const script: Script<RestoreTestOption> = {
  name: "restore-test",
  summary: "Restore a service's backup into a throwaway instance, prove it, report it and remove it.",
  description:
    "With --source the service is marked first, and the restore must show exactly that moment. With --receipt it was marked " +
    "before. With neither the source is gone: the newest backup is recovered to the end of its WAL, and the newest marker " +
    "says how much was lost. Exit code 0 means the verdict is healthy. --patroni-config takes a template of your own " +
    "(a copy of patroni-templates/restore-test.yml) for the throwaway Patroni.",
  options: RESTORE_TEST_OPTIONS,
  required: ["stanza"],
  examples: [
    '# mark, restore, prove, remove\nrestore-test.mjs --source "host=/var/run/postgresql user=postgres" --stanza main',
    "# in a debugging pod, without Patroni and etcd, with everything left to look at\n" +
      "restore-test.mjs --receipt /tmp/receipt.json --stanza main --runner direct --keep",
    "# the source is gone: what can be had, and how old is it\nrestore-test.mjs --stanza main --max-rpo 24h --json",
  ],
  async run(context) {
    const { restoreTest } = await import("../restore-test/restore-test.ts");
    await restoreTest(context);
  },
};
