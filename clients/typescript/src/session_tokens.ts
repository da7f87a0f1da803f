/** What a session has written and read, as the tokens that its next read carries. */

interface Answer {
  position?: number;
  last_position?: number | null;
  consistency_token?: string | null;
  freshness?: { position: number; token: string | null };
  /** Of a read of the past, which says nothing of the present. */
  as_of?: unknown;
}

/** So many a read may carry. */
const MAX_TOKENS = 8;

/**
 * Of the tokens with a known position the newest one covers all others. Those of imports and restores, and of changes by
 * a filter that found all as it was to be, say no position: they are kept beside it, until a read has carried them, whose own token covers them too.
 */
export class SessionTokens {
  #newest: { position: number; token: string } | undefined;
  #others: string[] = [];

  carried(): string {
    return [...this.#others, ...(this.#newest ? [this.#newest.token] : [])].join(",");
  }

  learn(answer: Answer, carried: string | null): void {
    if (answer.as_of) return;
    if (answer.freshness?.token) {
      this.#known(answer.freshness.position, answer.freshness.token);
      const covered = new Set(carried?.split(",") ?? []);
      this.#others = this.#others.filter((token) => !covered.has(token));
    } else if (answer.consistency_token) {
      const position = answer.last_position ?? answer.position;
      if (position !== undefined) this.#known(position, answer.consistency_token);
      else if (this.#others.length < MAX_TOKENS - 1) this.#others.push(answer.consistency_token);
      else throw new Error("a session reads something after at most seven imports or restores");
    }
  }

  #known(position: number, token: string): void {
    if (!this.#newest || position > this.#newest.position) this.#newest = { position, token };
  }
}
