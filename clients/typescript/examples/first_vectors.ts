/** Writes vectors, reads them back at once, and searches. Its last line is one JSON object. */

import { createAindusDB, fromBase64, session, toBase64 } from "../src/index.js";

const url = process.env["AINDUSDB_URL"] ?? "http://127.0.0.1:8000";
const name = `typescript-${Date.now()}`;
const db = session(url, { retries: { patienceMs: 60_000 } });

const created = await db.POST("/api/v1/collections", { body: { name, dimension: 3 } });
if (created.error) throw new Error(created.error.detail);

const embedding = Float32Array.of(0.1, 0.2, 0.3);
const written = await db.POST("/api/v1/collections/{name}/vectors/batch", {
  params: { path: { name } },
  body: {
    operations: [
      { op: "upsert", id: "a-1", embedding: toBase64(embedding), content: "Wing flutter", metadata: { lang: "en" } },
      { op: "upsert", id: "a-2", embedding: [0.3, 0.2, 0.1], metadata: { lang: "fr" } },
    ],
  },
});
if (written.error) throw new Error(written.error.detail);

const found = await db.POST("/api/v1/collections/{name}/vectors/search", {
  params: { path: { name } },
  body: { embedding: [0.1, 0.2, 0.3], k: 1, filter: { lang: "en" }, include: ["content", "embedding"], embedding_format: "base64" },
});
if (found.error) throw new Error(found.error.detail);
const [hit] = found.data.hits;
const back = typeof hit?.embedding === "string" ? fromBase64(hit.embedding) : Float32Array.of();

const current = `${name}-current`;
const alias = await db.PUT("/api/v1/aliases/{name}", { params: { path: { name: current } }, body: { collection: name } });
if (alias.error) throw new Error(alias.error.detail);
const deleted = await db.POST("/api/v1/collections/{name}/vectors/delete", {
  params: { path: { name: current } },
  body: { filter: { lang: "fr" } },
});
if (deleted.error) throw new Error(deleted.error.detail);
const left = await db.POST("/api/v1/collections/{name}/vectors/scroll", {
  params: { path: { name: current } },
  body: { include: [], direction: "desc" },
});
if (left.error) throw new Error(left.error.detail);

const refused = await createAindusDB(url).GET("/api/v1/collections/{name}/vectors/{id}", {
  params: { path: { name, id: "absent" } },
});

console.log(
  JSON.stringify({
    hit: hit?.id,
    content: hit?.content,
    bit_for_bit: back.length === 3 && back.every((number, index) => number === embedding[index]),
    deleted: deleted.data.deleted,
    left: left.data.items.map((one) => one.id),
    problem: refused.error?.type,
  }),
);
