// Every version of every key that some location may still see, in SQLite. Names are compared as
// bytes: that is KV's order, and JavaScript's is another.

import { DatabaseSync } from "node:sqlite";

const SCHEMA = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  CREATE TABLE IF NOT EXISTS versions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    name BLOB NOT NULL,
    location TEXT NOT NULL,
    written_at INTEGER NOT NULL,
    expiration INTEGER,
    metadata TEXT,
    deleted INTEGER NOT NULL,
    value BLOB
  );
  CREATE INDEX IF NOT EXISTS by_name ON versions (namespace, name, seq);
  CREATE TABLE IF NOT EXISTS namespaces (id TEXT PRIMARY KEY, title TEXT NOT NULL UNIQUE);
  CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
`;

/**
 * @typedef {object} Version
 * @property {number} seq grows with every write
 * @property {string} location where it was written
 * @property {number} written_at milliseconds
 * @property {number | null} expiration seconds since the Unix epoch
 * @property {string | null} metadata JSON
 * @property {number} deleted 1: a delete
 * @property {Uint8Array | null} value
 */

export class Versions {
  #database;
  #statements;

  /** @param {string} path a file, or ":memory:" */
  constructor(path) {
    this.#database = new DatabaseSync(path);
    this.#database.exec(SCHEMA);
    const columns = "seq, location, written_at, expiration, metadata, deleted";
    const prepare = (sql) => this.#database.prepare(sql);
    const key = "namespace = ? AND name = ?";
    this.#statements = {
      newest: prepare(
        `SELECT ${columns}, value FROM versions WHERE ${key} ORDER BY seq DESC LIMIT 1`,
      ),
      visible: prepare(
        `SELECT ${columns}, value FROM versions WHERE ${key}
         AND (location = ? OR written_at <= ?) ORDER BY seq DESC LIMIT 1`,
      ),
      add: prepare(
        `INSERT INTO versions
         (namespace, name, location, written_at, expiration, metadata, deleted, value)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
      ),
      forget: prepare(
        `DELETE FROM versions WHERE ${key} AND seq <
         (SELECT max(seq) FROM versions WHERE ${key} AND written_at <= ?)`,
      ),
      // With max(), SQLite takes the other columns from the row that has the maximum.
      page: prepare(
        `SELECT name, max(seq) AS seq, expiration, metadata, deleted FROM versions
         WHERE namespace = ? AND name >= ? AND (? IS NULL OR name < ?) AND name > ?
         AND written_at <= ? GROUP BY name ORDER BY name LIMIT ?`,
      ),
      outdated: prepare(
        `DELETE FROM versions AS old WHERE EXISTS (SELECT 1 FROM versions AS newer
         WHERE newer.namespace = old.namespace AND newer.name = old.name
         AND newer.seq > old.seq AND newer.written_at <= ?)`,
      ),
      ended: prepare(
        `DELETE FROM versions AS old WHERE written_at <= ?1
         AND (deleted = 1 OR expiration * 1000 <= ?1) AND NOT EXISTS (SELECT 1
         FROM versions AS other WHERE other.namespace = old.namespace
         AND other.name = old.name AND other.seq <> old.seq)`,
      ),
      namespaces: prepare("SELECT id, title FROM namespaces ORDER BY title"),
      namespace: prepare("SELECT id, title FROM namespaces WHERE id = ?"),
      create: prepare("INSERT OR IGNORE INTO namespaces (id, title) VALUES (?, ?)"),
      rename: prepare("UPDATE OR IGNORE namespaces SET title = ? WHERE id = ?"),
      drop: prepare("DELETE FROM namespaces WHERE id = ?"),
      empty: prepare("DELETE FROM versions WHERE namespace = ?"),
      fact: prepare("SELECT value FROM facts WHERE name = ?"),
      note: prepare("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)"),
    };
  }

  /** @returns {Version | undefined} */
  newest(namespace, name) {
    return this.#statements.newest.get(namespace, bytes(name));
  }

  /**
   * The newest version that was written at a location, or anywhere until `written`.
   * @returns {Version | undefined}
   */
  visible(namespace, name, location, written) {
    return this.#statements.visible.get(namespace, bytes(name), location, written);
  }

  /**
   * Add a version and forget those that nobody can see any more.
   * @param {{location: string, written_at: number, expiration: number | null,
   *   metadata: string | null, value: Uint8Array | null}} version value null: a delete
   * @param {number} settled milliseconds: what was written until then is visible everywhere
   */
  add(namespace, name, version, settled) {
    const key = bytes(name);
    const { location, written_at, expiration, metadata, value } = version;
    const deleted = value === null ? 1 : 0;
    this.#statements.add.run(
      namespace, key, location, written_at, expiration, metadata, deleted, value,
    );
    this.#statements.forget.run(namespace, key, namespace, key, settled);
  }

  /**
   * The next names in order, deleted and expired ones among them.
   * @param {string} prefix
   * @param {Uint8Array} after names after this one
   * @param {number} written milliseconds: versions written until then
   */
  page(namespace, prefix, after, written, limit) {
    const first = bytes(prefix);
    const end = successor(first);
    return this.#statements.page.all(namespace, first, end, end, after, written, limit);
  }

  /**
   * Remove what has been deleted or expired, and seen to be so everywhere.
   * @param {number} time milliseconds: since then
   */
  purge(time) {
    this.#statements.outdated.run(time);
    this.#statements.ended.run(time);
  }

  /** @returns {{id: string, title: string}[]} */
  namespaces() {
    return this.#statements.namespaces.all();
  }

  /** @returns {{id: string, title: string} | undefined} */
  namespace(id) {
    return this.#statements.namespace.get(id);
  }

  /** @returns {boolean} false when the title is taken */
  createNamespace(id, title) {
    return this.#statements.create.run(id, title).changes > 0;
  }

  /** @returns {boolean} false when the title is taken */
  renameNamespace(id, title) {
    return this.#statements.rename.run(title, id).changes > 0;
  }

  dropNamespace(id) {
    this.#statements.drop.run(id);
    this.#statements.empty.run(id);
  }

  /** @returns {string | undefined} */
  fact(name) {
    return this.#statements.fact.get(name)?.value;
  }

  note(name, value) {
    this.#statements.note.run(name, value);
  }

  close() {
    this.#database.close();
  }
}

function bytes(text) {
  return Buffer.from(text, "utf8");
}

/** The first byte string after all that begin with these; null when there is none. */
function successor(prefix) {
  for (let index = prefix.length - 1; index >= 0; index--) {
    if (prefix[index] < 0xff) {
      const end = Buffer.from(prefix.subarray(0, index + 1));
      end[index] += 1;
      return end;
    }
  }
  return null;
}
