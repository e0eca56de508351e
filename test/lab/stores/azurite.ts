/** Azurite, Microsoft's own emulator of Azure's blob storage, over TLS. `.ci/install stores` installs it. */

import { createHmac } from "node:crypto";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Lab } from "../lab.ts";
import { type Service, waitFor } from "../process.ts";
import { answers, BUCKET, REPOSITORY_PATH, type Store } from "./store.ts";
import { makeCertificates } from "./tls.ts";

const PROGRAM = fileURLToPath(new URL("azurite/node_modules/azurite/dist/src/blob/main.js", import.meta.url));
const ACCOUNT = "patronirestore";
const KEY = Buffer.from("a key of the laboratory, of some length").toString("base64");

export async function startAzurite(lab: Lab): Promise<Store> {
  if (!existsSync(PROGRAM)) throw new Error("Azurite is not installed; run .ci/install stores");
  const { caFile, certFile, keyFile } = await makeCertificates(lab);
  const port = await lab.freePort();
  const location = await lab.makeDirectory("azurite");
  let server: Service;
  const start = async () => {
    const args = [
      ["--blobHost", "127.0.0.1", "--blobPort", String(port), "--location", location],
      ["--cert", certFile, "--key", keyFile],
      // Requests name the account in the path, of whatever version of the API, and nobody is told of them.
      ["--disableProductStyleUrl", "--skipApiVersionCheck", "--disableTelemetry", "--silent"],
    ].flat();
    server = lab.startService("azurite", process.execPath, [PROGRAM, ...args], {
      env: { AZURITE_ACCOUNTS: `${ACCOUNT}:${KEY}` },
      // The tree may lie where postgres cannot read.
      asRoot: true,
    });
    const isReady = async () => {
      if (!server.isRunning()) throw new Error(`Azurite ended:\n${await server.log()}`);
      return answers(port, caFile);
    };
    await waitFor("Azurite to answer", isReady, 60_000, () => server.log());
  };
  await start();
  return {
    port,
    caFile,
    settings: (access, through = port) => ({
      "repo1-type": "azure",
      "repo1-path": REPOSITORY_PATH,
      "repo1-azure-account": ACCOUNT,
      "repo1-azure-container": BUCKET,
      "repo1-azure-endpoint": "localhost",
      "repo1-azure-uri-style": "path",
      "repo1-azure-key-type": access === "read-write" ? "shared" : "sas",
      "repo1-azure-key": access === "read-write" ? KEY : readOnlyToken(),
      "repo1-storage-host": "localhost",
      "repo1-storage-port": through,
      "repo1-storage-ca-file": caFile,
    }),
    stop: () => server.stop("SIGTERM"),
    start,
  };
}

/**
 * A shared access signature of the container that reads and lists, and nothing else.
 * https://learn.microsoft.com/rest/api/storageservices/create-service-sas
 */
function readOnlyToken(): string {
  const seconds = (date: Date) => date.toISOString().replace(/\.\d+/, "");
  const token = {
    sp: "rl",
    st: seconds(new Date(Date.now() - 60_000)),
    se: seconds(new Date(Date.now() + 24 * 3600_000)),
    spr: "https",
    sv: "2019-12-12",
    sr: "c",
  };
  const resource = `/blob/${ACCOUNT}/${BUCKET}`;
  const none = "";
  const signed = [token.sp, token.st, token.se, resource, none, none, token.spr, token.sv, token.sr];
  // Snapshot, and the headers that an answer would have.
  const text = [...signed, none, none, none, none, none, none].join("\n");
  const sig = createHmac("sha256", Buffer.from(KEY, "base64")).update(text).digest("base64");
  return new URLSearchParams({ ...token, sig }).toString();
}
