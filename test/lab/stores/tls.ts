/** A certificate authority of the laboratory's own, and a server's certificate from it. */

import type { Lab } from "../lab.ts";

export interface Certificates {
  /** Of the authority: what pgBackRest calls `repo1-storage-ca-file`. */
  caFile: string;
  /** The server's certificate followed by the authority's. */
  certFile: string;
  keyFile: string;
}

/** pgBackRest 2.45 compares DNS names only: a server at 127.0.0.1 has to be called localhost. */
const EXTENSIONS = `subjectAltName=DNS:localhost,DNS:*.localhost
basicConstraints=CA:FALSE
extendedKeyUsage=serverAuth
`;

/** `name`: its directory in the lab. A second authority is one that nobody should trust. */
export async function makeCertificates(lab: Lab, name = "tls"): Promise<Certificates> {
  const cwd = await lab.makeDirectory(name);
  await lab.writeFile(`${name}/extensions.txt`, EXTENSIONS);
  const openssl = (line: string) => lab.mustRun("openssl", line.split(" "), { cwd });
  const newKey = "-newkey rsa:2048 -nodes -days 30 -subj";
  await openssl(`req -x509 ${newKey} /CN=${name} -keyout ca.key -out ca.crt`);
  await openssl(`req ${newKey.replace("-days 30 ", "")} /CN=localhost -keyout server.key -out server.csr`);
  await openssl(
    "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extensions.txt -out server.crt",
  );
  await lab.mustRun("bash", ["-c", "cat server.crt ca.crt > chain.crt"], { cwd });
  return {
    caFile: lab.path(name, "ca.crt"),
    certFile: lab.path(name, "chain.crt"),
    keyFile: lab.path(name, "server.key"),
  };
}
