/**
 * Ceph's object gateway, a real S3-compatible store in production use, on one machine: a monitor, an object storage daemon
 * on a sparse file, and the gateway with TLS. Debian's packages ceph-mon, ceph-osd and radosgw.
 */

import { randomUUID } from "node:crypto";
import type { Lab } from "../lab.ts";
import { type Service, waitFor } from "../process.ts";
import { answers, BUCKET, REPOSITORY_PATH, type Store } from "./store.ts";
import { type Certificates, makeCertificates } from "./tls.ts";

export interface Ceph extends Store {
  certificates: Certificates;
  /** The bucket takes no more than this; null lifts the limit. */
  setQuota(bytes: number | null): Promise<void>;
}

const READ_WRITE = { key: "readWriteKey", secret: "readWriteSecret" };
const READ_ONLY = { key: "readOnlyKey", secret: "readOnlySecret" };

export async function startCeph(lab: Lab): Promise<Ceph> {
  const certificates = await makeCertificates(lab);
  const port = await lab.freePort();
  for (const name of ["ceph", "ceph/mon", "ceph/osd", "ceph/run"]) await lab.makeDirectory(name);
  const [firstMonitorPort, secondMonitorPort] = [await lab.freePort(), await lab.freePort()];
  const fsid = randomUUID();
  const monitors = `[v2:127.0.0.1:${firstMonitorPort},v1:127.0.0.1:${secondMonitorPort}]`;
  const config = await lab.writeFile("ceph/ceph.conf", configuration(lab, { port, fsid, monitors, certificates }));
  const run = (file: string, ...args: string[]) => lab.mustRun(file, ["-c", config, ...args], { timeoutMs: 60_000 });
  const admin = (...args: string[]) => run("radosgw-admin", ...args);

  await makeMonitor(lab, config, fsid, monitors);
  lab.startService("ceph-mon", "ceph-mon", ["-c", config, "-i", "a", "-f"]);
  const osd = randomUUID();
  await run("ceph", "osd", "new", osd);
  await run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd);
  lab.startService("ceph-osd", "ceph-osd", ["-c", config, "-i", "0", "-f"]);
  let gateway: Service;
  const start = async () => {
    gateway = lab.startService("ceph-rgw", "radosgw", ["-c", config, "-n", "client.rgw", "-f"]);
    const isReady = async () => {
      if (!gateway.isRunning()) throw new Error(`radosgw ended:\n${await gateway.log()}`);
      return answers(port, certificates.caFile);
    };
    await waitFor("Ceph's gateway to answer", isReady, 120_000, () => gateway.log());
  };
  await start();
  const keys = ({ key, secret }: typeof READ_ONLY) => [`--access-key=${key}`, `--secret-key=${secret}`];
  await admin("user", "create", "--uid=lab", "--display-name=lab", ...keys(READ_WRITE));
  await admin("subuser", "create", "--uid=lab", "--subuser=lab:reader", "--access=read");
  await admin("key", "create", "--uid=lab", "--subuser=lab:reader", "--key-type=s3", ...keys(READ_ONLY));

  return {
    port,
    caFile: certificates.caFile,
    certificates,
    settings(access, through = port) {
      const { key, secret } = access === "read-write" ? READ_WRITE : READ_ONLY;
      return {
        "repo1-type": "s3",
        "repo1-path": REPOSITORY_PATH,
        "repo1-s3-bucket": BUCKET,
        "repo1-s3-endpoint": "localhost",
        "repo1-s3-uri-style": "path",
        "repo1-s3-region": "us-east-1",
        "repo1-s3-key": key,
        "repo1-s3-key-secret": secret,
        "repo1-storage-port": through,
        "repo1-storage-ca-file": certificates.caFile,
      };
    },
    async setQuota(bytes) {
      const quota = ["--uid=lab", "--quota-scope=bucket"];
      if (bytes === null) await admin("quota", "disable", ...quota);
      else {
        await admin("quota", "set", ...quota, `--max-size=${bytes}`);
        await admin("quota", "enable", ...quota);
      }
    },
    stop: () => gateway.stop("SIGKILL"),
    start,
  };
}

async function makeMonitor(lab: Lab, config: string, fsid: string, monitors: string): Promise<void> {
  const keyring = lab.path("ceph", "keyring");
  const everything = (...daemons: string[]) => daemons.flatMap((daemon) => ["--cap", daemon, "allow *"]);
  const roles: [name: string, caps: string[]][] = [
    ["mon.", everything("mon")],
    ["client.admin", everything("mon", "osd", "mgr")],
    ["client.rgw", everything("mon", "osd", "mgr")],
    ["osd.0", ["--cap", "mon", "allow profile osd", "--cap", "osd", "allow *", "--cap", "mgr", "allow profile osd"]],
  ];
  for (const [index, [name, caps]] of roles.entries()) {
    await lab.mustRun("ceph-authtool", [...(index === 0 ? ["-C"] : []), keyring, "--gen-key", "-n", name, ...caps]);
  }
  const map = lab.path("ceph", "monmap");
  await lab.mustRun("monmaptool", ["--create", "--addv", "a", monitors, "--fsid", fsid, map]);
  await lab.mustRun("ceph-mon", ["-c", config, "-i", "a", "--mkfs", "--monmap", map, "--keyring", keyring]);
}

function configuration(
  lab: Lab,
  { port, fsid, monitors, certificates }: { port: number; fsid: string; monitors: string; certificates: Certificates },
): string {
  const dir = lab.path("ceph");
  const { certFile, keyFile } = certificates;
  return `[global]
fsid = ${fsid}
mon host = ${monitors}
mon initial members = a
# Without authentication the gateway never gets a connection under a name of its own.
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = ${dir}/keyring
public addr = 127.0.0.1
cluster addr = 127.0.0.1
# One copy of everything, on one device.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
# The first start changes the cluster's map about ten times, and each change waits this long (1 s otherwise).
paxos propose interval = 0.02
paxos min wait = 0.01
log file = ${lab.path("log")}/$name.log
pid file = ${dir}/run/$name.pid
admin socket =
run dir = ${dir}/run
crash dir = ${dir}/run
debug ms = 0
[mon]
mon data = ${dir}/mon
mon cluster log file = ${lab.path("log")}/ceph-cluster.log
[osd]
osd data = ${dir}/osd
osd objectstore = bluestore
bluestore block size = 8589934592
bluestore block db create = false
bluestore block wal create = false
osd memory target = 939524096
[client.rgw]
# Without tcp_nodelay each small answer takes 40 ms.
rgw frontends = beast tcp_nodelay=1 ssl_endpoint=127.0.0.1:${port} ssl_certificate=${certFile} ssl_private_key=${keyFile}
rgw data = ${dir}
rgw dns name = localhost
rgw thread pool size = 32
rgw gc obj min wait = 5
rgw gc processor period = 10
# A quota counts at once.
rgw bucket quota ttl = 0
`;
}
