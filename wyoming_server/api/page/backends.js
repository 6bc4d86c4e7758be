// @ts-check
/** A card for each backend: how it is, why, when it is tried again, and a button that tests it. */

import { ApiError, ask } from "./api.js";
import { byId, html, say } from "./dom.js";
import { backendName, errorName, money, seconds, wait, word } from "./words.js";

/** @typedef {{card: HTMLElement, retryAt: number | null, status: any}} Card */

/** @type {Map<string, () => string>} what came of the latest test, in the language of the page */
const results = new Map();

/** @type {Map<string, Card>} */
const cards = new Map();

/**
 * Show how they are; cards stay the same elements, so that the focus stays where it is.
 * @param {any} status as of /api/status
 */
export function showBackends(status) {
  const grid = /** @type {HTMLElement} */ (byId("backends").querySelector(".cards"));
  const asked = status.backends.filter((/** @type {any} */ item) => item.state !== null);
  status.backends.forEach((/** @type {any} */ backend, /** @type {number} */ index) => {
    const known = cards.get(backend.name) ?? { card: made(backend.name), retryAt: null, status: backend };
    cards.set(backend.name, known);
    known.status = { ...backend, choice: asked.indexOf(backend) + 1 };
    known.retryAt = backend.retry_in === null ? null : Date.now() + backend.retry_in * 1000;
    fill(known);
    if (grid.children[index] !== known.card) grid.insertBefore(known.card, grid.children[index] ?? null);
  });
}

/** Write all anew, in another language. */
export function relabelBackends() {
  for (const card of cards.values()) {
    say(part(card.card, ".result"), results.get(card.status.name)?.() ?? "");
    fill(card);
  }
}

/** Let the seconds until the next probe pass. */
export function tickBackends() {
  for (const card of cards.values()) if (card.retryAt !== null) say(part(card.card, ".why"), why(card));
}

/**
 * What a person is told of a failed request.
 * @param {unknown} error
 */
export function reason(error) {
  return (error instanceof ApiError && error.message) || word("unreachable");
}

/** @param {any} backend */
function stateOf(backend) {
  if (!backend.enabled) return "off";
  return backend.missing ? "missing" : (backend.state ?? "off");
}

/** @param {Card} known */
function fill({ card, retryAt, status }) {
  const name = backendName(status.name);
  const state = stateOf(status);
  card.dataset.state = state;
  say(part(card, "h3"), name);
  say(part(card, ".state"), word(`state.${state}`));
  say(part(card, ".why"), why({ card, retryAt, status }));
  const button = part(card, ".test");
  button.setAttribute("aria-label", word("test.of", { backend: name }));
  say(button, word(card.dataset.testing ? "test.running" : "test"));
  part(card, "dl").replaceChildren(
    figure("figure.median", time(status.median_ms)),
    figure("figure.p95", time(status.p95_ms)),
    figure("figure.today", money(status.today.dollars)),
  );
}

/** @param {Card} known */
function why({ retryAt, status }) {
  const state = stateOf(status);
  if (state === "missing") return status.missing;
  if (state === "off") return word("why.off");
  if (state === "closed") {
    const key = status.over_budget ? "over" : status.choice === 1 ? "first" : "closed";
    return word(`why.${key}`, { number: status.choice });
  }
  const cause = status.cause ? word(`cause.${status.cause}`) : "";
  if (state === "half-open") return [cause, word("retry.now")].filter(Boolean).join(" ");
  const left = retryAt === null ? null : Math.max(Math.ceil((retryAt - Date.now()) / 1000), 0);
  const when =
    left === null
      ? word("retry.never")
      : left
        ? word("retry.in", { seconds: seconds(left, 0) })
        : word("retry.now");
  return [cause, when].filter(Boolean).join(" ");
}

/** @param {string} name */
function made(name) {
  const button = html("button", { type: "button", class: "test" });
  const result = html("p", { class: "result", role: "status" });
  const card = html(
    "article",
    { class: "panel card", "data-backend": name, "aria-labelledby": `backend-${name}` },
    html("div", { class: "name" }, html("h3", { id: `backend-${name}` }), html("span", { class: "state" })),
    html("p", { class: "why" }),
    html("dl", { class: "figures" }),
    button,
    result,
  );
  button.addEventListener("click", () => void test(name, card, button, result));
  return card;
}

/**
 * @param {string} name
 * @param {HTMLElement} card
 * @param {HTMLElement} button
 * @param {HTMLElement} result
 */
async function test(name, card, button, result) {
  if (card.dataset.testing) return;
  card.dataset.testing = "yes"; // not disabled, which would lose the focus
  button.setAttribute("aria-disabled", "true");
  say(button, word("test.running"));
  delete result.dataset.ok;
  results.delete(name);
  say(result, "");
  try {
    const answer = await ask("api/test", { method: "POST", body: { backends: [name] } });
    const [verdict] = answer.results;
    result.dataset.ok = String(verdict.ok);
    results.set(name, () => told(verdict));
  } catch (error) {
    result.dataset.ok = "false";
    results.set(name, () => word("action.failed", { error: reason(error) }));
  } finally {
    say(result, results.get(name)?.() ?? "");
    delete card.dataset.testing;
    button.removeAttribute("aria-disabled");
    say(button, word("test"));
  }
}

/** @param {any} verdict as of /api/test */
function told({ ok, ms, text, code, message }) {
  if (!ok) return word("test.failed", { error: errorName(code), message });
  return word(text ? "test.ok" : "test.silent", { ms: wait(ms), text });
}

/**
 * @param {string} key
 * @param {Node | string} value
 */
function figure(key, value) {
  return html("div", {}, html("dt", {}, word(key)), html("dd", {}, value));
}

/** A time that is known only after some answers. @param {number | null} ms */
function time(ms) {
  if (ms !== null) return wait(ms);
  const when = word("figure.later");
  const dash = html("span", { "aria-hidden": "true" }, wait(ms));
  return html("span", { class: "later", title: when }, dash, html("span", { class: "unseen" }, when));
}

/**
 * @param {HTMLElement} card
 * @param {string} selector
 */
function part(card, selector) {
  return /** @type {HTMLElement} */ (card.querySelector(selector));
}
