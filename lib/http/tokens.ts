/** Bearer tokens (RFC 6750). */

import { createHash, timingSafeEqual } from "node:crypto";

/** Shorter ones can be guessed. */
const SHORTEST = 16;

/** One on each line, so that a new one is valid before the old one is taken away. Throws a plain Error. */
export function parseTokens(text: string): string[] {
  const tokens = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  if (tokens.length === 0) throw new Error("it holds no token");
  if (tokens.some((token) => token.length < SHORTEST)) {
    throw new Error(`it holds a token of less than ${SHORTEST} characters; make one with: openssl rand -hex 32`);
  }
  if (tokens.some((token) => !/^[\x21-\x7e]+$/.test(token))) {
    throw new Error("it holds a token with a space or a letter beyond ASCII, which no header can carry");
  }
  return tokens;
}

/** Takes the same time whichever character is wrong. */
export function isAuthorized(header: string | undefined, tokens: readonly string[]): boolean {
  const given = /^Bearer +(\S+)$/i.exec(header ?? "")?.[1];
  if (given === undefined) return false;
  const digest = (token: string) => createHash("sha256").update(token).digest();
  const wanted = digest(given);
  return tokens.map((token) => timingSafeEqual(digest(token), wanted)).includes(true);
}
