/** When a request is sent again, and after which pause. */

export interface RetryPolicy {
  /** Failures of one request are waited out for so long altogether; 0 means never. */
  patienceMs?: number;
  firstPauseMs?: number;
  longestPauseMs?: number;
}

const TRANSIENT_STATUSES = new Set([502, 503, 504]);
const FINAL_PROBLEM = "/problems/not-fresh-enough";

type Send = (request: Request) => Promise<Response>;

/** Sends a request again when no answer came, or one that may be another a little later. */
export function repeating(send: Send, policy: RetryPolicy = {}): Send {
  const { patienceMs = 3_000, firstPauseMs = 100, longestPauseMs = 5_000 } = policy;
  return async (request) => {
    const deadline = Date.now() + patienceMs;
    for (let failures = 1; ; failures++) {
      const outcome = await attempt(send, request.clone());
      if (outcome instanceof Response && !(await mayPass(outcome))) return outcome;
      const asked = outcome instanceof Response ? Number(outcome.headers.get("Retry-After") ?? 0) * 1_000 : 0;
      const doubled = Math.min(firstPauseMs * 2 ** (failures - 1), longestPauseMs);
      const pause = Math.max(doubled * (0.5 + Math.random() / 2), Number.isFinite(asked) ? asked : 0);
      if (Date.now() + pause > deadline || request.signal.aborted) {
        if (outcome instanceof Response) return outcome;
        throw outcome.error;
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  };
}

async function attempt(send: Send, request: Request): Promise<Response | { error: unknown }> {
  try {
    return await send(request);
  } catch (error) {
    return { error };
  }
}

/** The service that is not fresh enough has waited already, as long as the caller wanted. */
async function mayPass(response: Response): Promise<boolean> {
  if (!TRANSIENT_STATUSES.has(response.status)) return false;
  const problem: unknown = await response.clone().json().catch(() => null);
  return !(typeof problem === "object" && problem !== null && "type" in problem && problem.type === FINAL_PROBLEM);
}
