// @ts-check
/** The latest utterances, newest first, each with its timeline. */

import { byId, html, svg } from "./dom.js";
import { timeline } from "./timeline.js";
import { backendName, clock, errorName, money, seconds, wait, word } from "./words.js";

const MOST = 50;
const COLUMNS = ["backend", "reason", "started", "connected", "partial", "final", "outcome", "dollars"];
const LEGEND = ["asked", "connected", "partial", "final", "failed", "stopped"];

/** @param {any[]} traces as of /api/traces, newest last */
export function showUtterances(traces) {
  byId("utterances").replaceChildren(...traces.slice(-MOST).reverse().map(item));
  tidy();
}

/** @param {any} trace */
export function addUtterance(trace) {
  byId("utterances").prepend(item(trace));
  tidy();
}

/** What the marks mean. */
export function showLegend() {
  byId("legend").replaceChildren(
    ...LEGEND.map((kind) => html("span", {}, sign(kind), word(`legend.${kind}`))),
  );
}

/** Milliseconds from the last sample to the answer; null where there was none. @param {any} trace */
export function waited(trace) {
  if (trace.answered === null || trace.error !== null) return null;
  return Math.max(trace.answered - (trace.ended ?? 0), 0) * 1000;
}

function tidy() {
  const list = byId("utterances");
  while (list.children.length > MOST) list.lastElementChild?.remove();
  byId("no-utterances").hidden = list.children.length > 0;
  byId("legend").hidden = list.children.length === 0;
}

/** @param {any} trace */
function item(trace) {
  const ms = waited(trace);
  const facts = [word("utterance.audio", { seconds: seconds(trace.audio_seconds, 1) })];
  if (ms !== null && trace.backend) facts.unshift(word("utterance.after", { ms: wait(ms) }));
  const details = html("details", {}, html("summary", {}, word("utterance.details")));
  details.addEventListener("toggle", () => {
    if (details.children.length === 1) details.append(table(trace));
  });
  return html(
    "li",
    { class: "panel utterance", "data-backend": trace.backend, "data-error": trace.error },
    html(
      "div",
      { class: "line" },
      html("time", { datetime: trace.at }, clock(trace.at)),
      html("strong", { class: "winner" }, winner(trace)),
      html("span", { class: "facts" }, facts.join(" · ")),
    ),
    ...(trace.attempts.length ? [timeline(trace), details] : []),
  );
}

/** @param {any} trace */
function winner(trace) {
  if (trace.error) return word("utterance.failed", { error: errorName(trace.error) });
  if (trace.backend) return backendName(trace.backend);
  if (trace.answered === null) return word("utterance.left");
  return word(trace.last_speech === null ? "utterance.silent" : "utterance.noise");
}

/** @param {any} trace */
function table(trace) {
  const head = COLUMNS.map((key) => html("th", { scope: "col" }, word(`attempt.${key}`)));
  const rows = trace.attempts.map((/** @type {any} */ attempt) => {
    const outcome = word(`outcome.${attempt.outcome}`);
    const cells = [
      word(`reason.${attempt.reason}`),
      seconds(attempt.started),
      seconds(attempt.connected),
      seconds(attempt.first_partial),
      seconds(attempt.final),
      attempt.error ? `${outcome} (${errorName(attempt.error)})` : outcome,
      money(attempt.dollars),
    ];
    return html(
      "tr",
      { "data-backend": attempt.backend },
      html("th", { scope: "row" }, html("span", { class: "swatch" }), backendName(attempt.backend)),
      ...cells.map((cell) => html("td", {}, cell)),
    );
  });
  return html(
    "div",
    { class: "scroll", tabindex: 0, role: "group", "aria-label": word("utterance.details") },
    html("table", {}, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...rows)),
  );
}

/** @param {string} kind */
function sign(kind) {
  const drawing = svg("svg", { width: 22, height: 16, "aria-hidden": "true", class: "sign" });
  const shapes = {
    asked: () => svg("rect", { class: "waiting", x: 1, y: 3, width: 20, height: 10, rx: 3 }),
    connected: () => svg("rect", { class: "working", x: 1, y: 3, width: 20, height: 10, rx: 3 }),
    partial: () => svg("circle", { class: "partial", cx: 11, cy: 8, r: 4 }),
    final: () => svg("path", { class: "final", d: "M11,0 19,8 11,16 3,8z" }),
    failed: () => svg("path", { class: "failed", d: "M6,3 16,13M6,13 16,3" }),
    stopped: () => svg("line", { class: "stopped", x1: 11, x2: 11, y1: 0, y2: 16 }),
  };
  drawing.append(shapes[/** @type {keyof typeof shapes} */ (kind)]());
  return drawing;
}
