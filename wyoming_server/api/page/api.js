// @ts-check
/** The server's API: the token, requests, and WebSockets. All addresses are relative to the page. */

const KEY = "stt-failover.token";
const PROTOCOL = "stt-failover";

/** A refusal, or no answer at all (status 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} message one line for people, in English; empty where the server did not answer
   */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Whether our server refuses the token, and not some proxy before it. */
  get isRefusal() {
    return this.status === 401 && this.code === "unauthorized";
  }
}

/** The token, kept in this browser where that is possible, else until the page is left. */
class Token {
  constructor() {
    this.value = read(KEY) ?? "";
  }

  /** @param {string} value empty forgets it */
  set(value) {
    this.value = value;
    write(KEY, value || null);
  }

  /** Use a token that may be a wrong one: other tabs do not hear of it. @param {string} value */
  lend(value) {
    this.value = value;
  }

  /** Forget the token, which was refused. True if another tab has kept another one, which counts now. */
  refused() {
    const kept = read(KEY) ?? "";
    const isOther = kept !== "" && kept !== this.value;
    if (isOther) this.value = kept;
    else this.set("");
    return isOther;
  }

  /**
   * Do as other tabs do.
   * @param {(value: string) => void} changed another token is there now, or none
   */
  follow(changed) {
    addEventListener("storage", ({ key }) => {
      const kept = read(KEY) ?? "";
      if ((key !== KEY && key !== null) || kept === this.value) return;
      this.value = kept;
      changed(kept);
    });
  }
}

export const token = new Token();

/**
 * Ask a page of the API.
 * @param {string} page such as "api/status"
 * @param {{method?: string, body?: unknown}} [options]
 * @returns {Promise<any>} the JSON of the answer; throws ApiError
 */
export async function ask(page, { method = "GET", body } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (token.value) headers["Authorization"] = `Bearer ${token.value}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  let said;
  try {
    answer = await fetch(address(page), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
    said = await answer.json();
  } catch {
    throw new ApiError(answer ? answer.status : 0, "unreachable", "");
  }
  if (!answer.ok) throw new ApiError(answer.status, String(said?.code ?? ""), String(said?.error ?? ""));
  return said;
}

/**
 * Open a WebSocket of the API; a browser can send the token only as a subprotocol.
 * @param {string} page such as "api/events"
 * @returns {WebSocket}
 */
export function open(page) {
  const url = address(page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(url, token.value ? [PROTOCOL, offered(token.value)] : [PROTOCOL]);
}

/**
 * The token as a subprotocol, in which some characters cannot stand.
 * @param {string} value
 */
function offered(value) {
  if (/^[\w!#$%&'*+.^`|~-]+$/.test(value)) return `bearer.${value}`;
  return `bearer64.${btoa(value).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/**
 * Whether a token can travel in a header at all.
 * @param {string} value
 */
export function isPossible(value) {
  return /^[!-~]+$/.test(value);
}

/**
 * What this browser has kept.
 * @param {string} key
 * @returns {string | null}
 */
export function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // the browser forbids it
  }
}

/**
 * Keep something in this browser; null takes it away.
 * @param {string} key
 * @param {string | null} value
 */
export function write(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // then it lasts until the page is left
  }
}

/** @param {string} page */
function address(page) {
  const url = new URL(page, location.href);
  url.hash = "";
  return url;
}
