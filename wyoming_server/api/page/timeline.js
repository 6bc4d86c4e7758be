// @ts-check
/** One utterance, drawn: who was asked when and why, and what came of it. */

import { svg } from "./dom.js";
import { backendName, errorName, seconds, word } from "./words.js";

const ROW = 38;
const BAR_TOP = 18;
const BAR = 12;
const AXIS = 22;
const STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300];

/**
 * @param {any} trace as of /api/traces
 * @returns {SVGElement}
 */
export function timeline(trace) {
  const ended = trace.ended === null ? null : Math.max(trace.ended, 0);
  const whole = lengthOf(trace);
  /** Where a time lies; percentages let the drawing be as wide as there is room. */
  const at = (/** @type {number} */ time) =>
    `${((Math.min(Math.max(time, 0), whole) / whole) * 100).toFixed(3)}%`;
  const height = trace.attempts.length * ROW + AXIS;
  const drawing = svg("svg", {
    class: "timeline",
    role: "img",
    width: "100%",
    height,
    "aria-label": told(trace),
  });
  if (ended)
    drawing.append(svg("rect", { class: "speaking", x: 0, y: 0, width: at(ended), height: height - AXIS }));
  for (const time of ticks(whole)) {
    const x = at(time);
    drawing.append(
      svg("line", { class: "grid", x1: x, x2: x, y1: 0, y2: height - AXIS + 4 }),
      svg(
        "text",
        { class: "tick", x, y: height - 4, "text-anchor": time ? "middle" : "start" },
        seconds(time),
      ),
    );
  }
  trace.attempts.forEach((/** @type {any} */ attempt, /** @type {number} */ index) => {
    drawing.append(row(trace, attempt, index, at));
  });
  if (ended !== null) {
    drawing.append(svg("line", { class: "stopped", x1: at(ended), x2: at(ended), y1: 0, y2: height - AXIS }));
  }
  return drawing;
}

/**
 * The drawing in words.
 * @param {any} trace
 */
export function told(trace) {
  const stopped =
    trace.ended === null ? [] : [word("utterance.stopped", { seconds: seconds(Math.max(trace.ended, 0)) })];
  return [...stopped, ...trace.attempts.map(toldOf)].join(" ");
}

/**
 * When an attempt was over. Where nobody has said so: at its final; at the failure, which is when the next one was
 * asked for that; else when the utterance was.
 * @param {any} trace
 * @param {any} attempt
 */
export function endOf(trace, attempt) {
  const over = attempt.over ?? attempt.final;
  if (over !== null) return Math.max(over, attempt.started);
  const next = trace.attempts[trace.attempts.indexOf(attempt) + 1];
  if (attempt.outcome === "failed" && next?.reason === "the one before failed") return next.started;
  const last = Math.max(
    trace.answered ?? 0,
    trace.ended ?? 0,
    attempt.first_partial ?? 0,
    attempt.connected ?? 0,
  );
  return Math.max(last, attempt.started);
}

/**
 * @param {any} trace
 * @param {any} attempt
 * @param {number} index
 * @param {(time: number) => string} at
 */
function row(trace, attempt, index, at) {
  const top = index * ROW;
  const y = top + BAR_TOP;
  const middle = y + BAR / 2;
  const end = endOf(trace, attempt);
  const connected = attempt.connected ?? end;
  const share = (/** @type {number} */ from, /** @type {number} */ to) =>
    `${Math.max(parseFloat(at(to)) - parseFloat(at(from)), 0.2).toFixed(3)}%`;
  const group = svg("g", { "data-backend": attempt.backend, "data-outcome": attempt.outcome });
  const sign =
    attempt.outcome === "failed"
      ? `✕ ${attempt.error ? errorName(attempt.error) : word("outcome.failed")}`
      : word(`outcome.${attempt.outcome}`);
  const title = `${backendName(attempt.backend)} · ${word(`short.${attempt.reason}`)} · ${sign}`;
  group.append(
    svg("title", {}, toldOf(attempt)),
    svg("text", { class: "who", x: 2, y: top + 13 }, title),
    svg("rect", {
      class: "waiting",
      x: at(attempt.started),
      y,
      width: share(attempt.started, end),
      height: BAR,
      rx: 3,
    }),
  );
  if (attempt.connected !== null) {
    group.append(
      svg("rect", {
        class: "working",
        x: at(connected),
        y,
        width: share(connected, end),
        height: BAR,
        rx: 3,
      }),
    );
    group.append(
      svg("line", { class: "connected", x1: at(connected), x2: at(connected), y1: y - 3, y2: y + BAR + 3 }),
    );
  }
  if (attempt.first_partial !== null)
    group.append(svg("circle", { class: "partial", cx: at(attempt.first_partial), cy: middle, r: 4 }));
  if (attempt.final !== null) group.append(mark("final", at(attempt.final), middle, "M0,-8 8,0 0,8 -8,0z"));
  if (attempt.outcome === "failed") group.append(mark("failed", at(end), middle, "M-5,-5 5,5M-5,5 5,-5"));
  return group;
}

/**
 * A shape at a share of the width, which paths by themselves cannot take.
 * @param {string} kind
 * @param {string} x
 * @param {number} y
 * @param {string} d
 */
function mark(kind, x, y, d) {
  return svg("svg", { x, y, overflow: "visible", width: 1, height: 1 }, svg("path", { class: kind, d }));
}

/** @param {any} trace */
function lengthOf(trace) {
  const times = trace.attempts.flatMap((/** @type {any} */ item) => [
    item.started,
    item.connected,
    item.first_partial,
    item.final,
    item.over ?? null,
  ]);
  const last = Math.max(
    ...times.filter((/** @type {any} */ time) => time !== null),
    trace.answered ?? 0,
    trace.ended ?? 0,
  );
  return Math.max(last, 0.1) * 1.04;
}

/** @param {number} whole */
function ticks(whole) {
  const step = STEPS.find((item) => whole / item <= 5) ?? whole;
  const count = Math.floor((whole * 0.95) / step);
  return Array.from({ length: count + 1 }, (_, index) => index * step);
}

/** @param {any} attempt */
function outcomeOf(attempt) {
  const outcome = word(`outcome.${attempt.outcome}`);
  return attempt.error ? `${outcome} (${errorName(attempt.error)})` : outcome;
}

/** @param {any} attempt */
function toldOf(attempt) {
  const since = (/** @type {string} */ key, /** @type {number | null} */ time) =>
    time === null ? "" : word(`attempt.told.${key}`, { time: seconds(time) });
  return word("attempt.told", {
    backend: backendName(attempt.backend),
    reason: word(`reason.${attempt.reason}`),
    started: seconds(attempt.started),
    connected: since("connected", attempt.connected),
    partial: since("partial", attempt.first_partial),
    final: since("final", attempt.final),
    outcome: outcomeOf(attempt),
  });
}
