/** The client: openapi-fetch with the types of the API, idempotency keys, retries, and sessions that read their own writes. */

import createClient, { type Client, type Middleware } from "openapi-fetch";

import { repeating, type RetryPolicy } from "./retries.js";
import type { components, paths } from "./schema.js";
import { SessionTokens } from "./session_tokens.js";

export { fromBase64, toBase64 } from "./embeddings.js";
export type { RetryPolicy } from "./retries.js";
export type { components, paths } from "./schema.js";

export type AindusDB = Client<paths>;
export type Problem = components["schemas"]["ProblemDocument"];

export interface Options {
  retries?: RetryPolicy;
  /** What sends a request; the platform's own by default. */
  fetch?: (request: Request) => Promise<Response>;
}

/** Writes carry an idempotency key, so that every request can be sent again. Imports take none: lines are put in place. */
const withKeys: Middleware = {
  onRequest({ request, schemaPath }) {
    const writes = request.method !== "GET" && !isRead(request) && !schemaPath.endsWith("/import");
    if (writes && !request.headers.has("Idempotency-Key")) {
      request.headers.set("Idempotency-Key", crypto.randomUUID());
    }
    return request;
  },
};

/** `url` is that of the edge, the gateway, or one service. */
export function createAindusDB(url: string, options: Options = {}): AindusDB {
  const send = options.fetch ?? ((request: Request) => fetch(request));
  const client = createClient<paths>({ baseUrl: url, fetch: repeating(send, options.retries) });
  client.use(withKeys);
  return client;
}

/** A client whose reads see what it wrote, and never go back behind what it has read. */
export function session(url: string, options: Options = {}): AindusDB {
  const tokens = new SessionTokens();
  const client = createAindusDB(url, options);
  client.use({
    onRequest({ request }) {
      const carried = tokens.carried();
      if (carried && takesTokens(request) && !request.headers.has("X-Consistency-Token")) {
        request.headers.set("X-Consistency-Token", carried);
      }
      return request;
    },
    async onResponse({ request, response }) {
      if (response.ok && response.headers.get("Content-Type")?.startsWith("application/json")) {
        tokens.learn(await response.clone().json(), request.headers.get("X-Consistency-Token"));
      }
      return response;
    },
  });
  return client;
}

/** Reads, and the writes that read first what they are to change. */
function takesTokens(request: Request): boolean {
  return isRead(request) || (request.method === "POST" && /\/vectors\/(delete|patch)$/.test(new URL(request.url).pathname));
}

function isRead(request: Request): boolean {
  return request.method === "GET" || /\/(search|search\/batch|search\/groups|count|recommend|scroll)$/.test(new URL(request.url).pathname);
}
