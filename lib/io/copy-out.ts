/** One column of bytes as it is: node-postgres decodes every row as text, but hands on COPY's data untouched. */

import type pg from "pg";
import { messageOf } from "../errors.ts";

/** `onValue` gets a view that is valid during the call only. */
export function copyOut(client: pg.Client, sql: string, onValue: (value: Buffer | null) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    client.query(
      new CopyOut(
        sql,
        (chunk, isFirst) => eachValue(chunk, isFirst, onValue),
        (error) => (error === null ? resolve() : reject(error)),
      ),
    );
  });
}

/** Signature, flags, and the length of an extension that nobody has. */
const HEADER_LENGTH = 19;

/** A message holds whole rows: a count of fields, then each field with its length; -1 fields end the data. */
function eachValue(chunk: Buffer, isFirst: boolean, onValue: (value: Buffer | null) => void): void {
  let at = isFirst ? HEADER_LENGTH : 0;
  while (at < chunk.length) {
    if (chunk.readInt16BE(at) < 0) return;
    const length = chunk.readInt32BE(at + 2);
    at += 6;
    onValue(length < 0 ? null : chunk.subarray(at, at + length));
    at += Math.max(length, 0);
  }
}

/** What node-postgres calls for a query of somebody else's making. */
class CopyOut implements pg.Submittable {
  /** node-postgres wraps it for its own time limit. */
  callback: (error: unknown) => void;
  private readonly sql: string;
  private readonly onChunk: (chunk: Buffer, isFirst: boolean) => void;
  private isFirst = true;
  private problem: unknown = null;

  constructor(sql: string, onChunk: (chunk: Buffer, isFirst: boolean) => void, callback: (error: unknown) => void) {
    this.sql = sql;
    this.onChunk = onChunk;
    this.callback = callback;
  }

  submit(connection: pg.Connection): void {
    connection.query(this.sql);
  }

  handleCopyData({ chunk }: { chunk: Buffer }): void {
    if (this.problem !== null) return;
    try {
      this.onChunk(chunk, this.isFirst);
    } catch (error) {
      this.problem = error ?? new Error(messageOf(error));
    }
    this.isFirst = false;
  }

  handleError(error: unknown): void {
    this.callback(error);
    this.callback = () => {};
  }

  handleReadyForQuery(): void {
    this.callback(this.problem);
  }

  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleCommandComplete(): void {}
  handleEmptyQuery(): void {}
}
