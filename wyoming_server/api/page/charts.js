// @ts-check
/** The day in two charts: how long people waited, and who answered them. Each also as a table. */

import { byId, html, svg } from "./dom.js";
import { backendName, count, hour, hourMark, list, wait, word } from "./words.js";

const HEIGHT = 150;
const TOP = 10;
const BACKENDS = ["assemblyai", "assemblyai_sync", "whisper", "local"];
const EVERY = 6;

/** @typedef {{from: string, utterances: number, answered: number, failovers: number, median_ms: number | null, backends: Record<string, number>}} Hour */

/** @param {Hour[]} hours as of /api/day, oldest first */
export function showCharts(hours) {
  latency(byId("latency"), hours);
  failovers(byId("failovers"), hours);
}

/**
 * The end of an axis: 1, 2 or 5 times a power of ten.
 * @param {number} most
 */
export function nice(most) {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 1e-9)));
  const factor = [1, 2, 5, 10].find((item) => item * power >= most * 0.999999) ?? 10;
  return factor * power;
}

/**
 * @param {HTMLElement} figure
 * @param {Hour[]} hours
 */
function latency(figure, hours) {
  const known = hours.map((item) => item.median_ms).filter((ms) => ms !== null);
  if (!known.length) return empty(figure, "latency");
  const top = nice(Math.max(...known, 10));
  const y = (/** @type {number} */ ms) => TOP + (1 - ms / top) * (HEIGHT - TOP);
  const summary = word("latency.summary", {
    least: wait(Math.min(...known)),
    most: wait(Math.max(...known)),
    latest: wait(known[known.length - 1] ?? null),
  });
  const plot = frame(hours, summary);
  hours.forEach((item, index) => {
    if (item.median_ms === null) return;
    const next = hours[index + 1];
    if (next && next.median_ms !== null) {
      plot.append(
        svg("line", {
          class: "course",
          x1: middle(index),
          y1: y(item.median_ms),
          x2: middle(index + 1),
          y2: y(next.median_ms),
        }),
      );
    }
  });
  hours.forEach((item, index) => {
    if (item.median_ms === null) return;
    const title = svg("title", {}, `${hour(item.from)}: ${wait(item.median_ms)}`);
    plot.append(svg("circle", { class: "point", cx: middle(index), cy: y(item.median_ms), r: 4 }, title));
  });
  const rows = hours.map((item) => [hour(item.from), wait(item.median_ms)]);
  const shown = rows.filter((_, index) => hours[index]?.median_ms !== null);
  fill(figure, "latency", axis(top, wait), plot, [], table(["chart.hour", "chart.median"], shown));
}

/**
 * @param {HTMLElement} figure
 * @param {Hour[]} hours
 */
function failovers(figure, hours) {
  const most = Math.max(...hours.map((item) => item.utterances));
  if (!most) return empty(figure, "failovers");
  const top = Math.max(nice(most * 1.1), 2);
  const sum = (/** @type {(item: Hour) => number} */ what) =>
    hours.reduce((total, item) => total + what(item), 0);
  const summary = word("failovers.summary", {
    utterances: count(sum((item) => item.utterances)),
    failovers: count(sum((item) => item.failovers)),
    unanswered: count(sum((item) => item.utterances - item.answered)),
  });
  const plot = frame(hours, summary);
  /** @type {Set<string>} */
  const kinds = new Set();
  hours.forEach((item, index) => {
    let base = HEIGHT;
    for (const [kind, number] of parts(item)) {
      if (!number) continue;
      kinds.add(kind);
      const height = (number / top) * (HEIGHT - TOP);
      const title = svg("title", {}, `${hour(item.from)}: ${nameOf(kind)} ${count(number)}`);
      // A line of the background between the parts keeps them apart for those who see no colours.
      const shape = {
        x: left(index),
        width: "3%",
        y: base - height,
        height: Math.max(height - 1.5, 1),
        rx: 1.5,
      };
      plot.append(svg("rect", { class: "part", "data-backend": kind, ...shape }, title));
      base -= height;
    }
    if (item.failovers) {
      const title = svg(
        "title",
        {},
        `${hour(item.from)}: ${word("chart.failovers")} ${count(item.failovers)}`,
      );
      const path = svg("path", { class: "failover", d: "M0,-6 6,0 0,6 -6,0z" }, title);
      plot.append(
        svg(
          "svg",
          { x: middle(index), y: Math.max(base - 8, 6), width: 1, height: 1, overflow: "visible" },
          path,
        ),
      );
    }
  });
  const rows = hours
    .filter((item) => item.utterances)
    .map((item) => [
      hour(item.from),
      count(item.utterances),
      count(item.answered),
      count(item.failovers),
      list(
        Object.entries(item.backends)
          .filter(([, number]) => number)
          .map(([name, number]) => `${backendName(name)} ${count(number)}`),
      ),
    ]);
  const columns = ["chart.hour", "chart.utterances", "chart.answered", "chart.failovers", "failovers.title"];
  fill(figure, "failovers", axis(top, count), plot, [...kinds], table(columns, rows));
}

/**
 * What a bar is made of, from below.
 * @param {Hour} item
 * @returns {[string, number][]}
 */
function parts(item) {
  const others = Object.keys(item.backends).filter((name) => !BACKENDS.includes(name));
  const named = [...BACKENDS, ...others].map(
    (name) => /** @type {[string, number]} */ ([name, item.backends[name] ?? 0]),
  );
  const silent = item.answered - named.reduce((sum, [, number]) => sum + number, 0);
  return [...named, ["silent", silent], ["unanswered", item.utterances - item.answered]];
}

/** @param {string} kind */
function nameOf(kind) {
  return kind === "silent" || kind === "unanswered" ? word(`chart.${kind}`) : backendName(kind);
}

/**
 * @param {Hour[]} hours
 * @param {string} summary
 */
function frame(hours, summary) {
  const plot = svg("svg", {
    class: "plot",
    role: "img",
    width: "100%",
    height: HEIGHT + 24,
    "aria-label": summary,
  });
  for (const share of [0, 0.5, 1]) {
    const y = TOP + share * (HEIGHT - TOP);
    plot.append(svg("line", { class: share === 1 ? "base" : "grid", x1: 0, x2: "100%", y1: y, y2: y }));
  }
  hours.forEach((item, index) => {
    if (index % EVERY !== EVERY - 1) return;
    const end = index === hours.length - 1;
    const x = end ? "100%" : middle(index);
    plot.append(
      svg(
        "text",
        { class: "tick", x, y: HEIGHT + 18, "text-anchor": end ? "end" : "middle" },
        hourMark(item.from),
      ),
    );
  });
  return plot;
}

/**
 * @param {number} top
 * @param {(value: number) => string} shown
 */
function axis(top, shown) {
  const drawing = svg("svg", { class: "axis", width: 56, height: HEIGHT + 24, "aria-hidden": "true" });
  for (const share of [0, 0.5, 1]) {
    const y = TOP + share * (HEIGHT - TOP) + 4;
    drawing.append(svg("text", { class: "tick", x: 48, y, "text-anchor": "end" }, shown(top * (1 - share))));
  }
  return drawing;
}

/**
 * @param {HTMLElement} figure
 * @param {string} kind
 * @param {SVGElement} scale
 * @param {SVGElement} plot
 * @param {string[]} kinds
 * @param {HTMLElement} figures
 */
function fill(figure, kind, scale, plot, kinds, figures) {
  const isOpen = figure.querySelector("details")?.open ?? false;
  const hadFocus = figure.contains(document.activeElement);
  const summary = html("summary", {}, word("chart.table"));
  const signs = kinds.map((name) =>
    html("span", { "data-backend": name }, html("span", { class: "swatch" }), nameOf(name)),
  );
  figure.replaceChildren(
    caption(kind),
    html("div", { class: "chart" }, scale, plot),
    ...(signs.length ? [html("div", { class: "legend" }, ...signs)] : []),
    html("details", { open: isOpen }, summary, figures),
  );
  if (hadFocus) summary.focus();
}

/**
 * @param {HTMLElement} figure
 * @param {string} kind
 */
function empty(figure, kind) {
  figure.replaceChildren(caption(kind), html("p", { class: "empty" }, word("chart.none")));
}

/** @param {string} kind */
function caption(kind) {
  return html(
    "figcaption",
    {},
    html("h3", {}, word(`${kind}.title`)),
    html("p", { class: "small" }, word(`${kind}.unit`)),
  );
}

/**
 * @param {string[]} columns
 * @param {string[][]} rows
 */
function table(columns, rows) {
  const head = columns.map((key) => html("th", { scope: "col" }, word(key)));
  const body = rows.map(([first = "", ...rest]) =>
    html("tr", {}, html("th", { scope: "row" }, first), ...rest.map((cell) => html("td", {}, cell))),
  );
  const inner = html("table", {}, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...body));
  return html(
    "div",
    { class: "scroll", tabindex: 0, role: "group", "aria-label": word("chart.table") },
    inner,
  );
}

/** @param {number} index */
function left(index) {
  return `${((index / 24) * 100 + 0.58).toFixed(2)}%`;
}

/** @param {number} index */
function middle(index) {
  return `${(((index + 0.5) / 24) * 100).toFixed(2)}%`;
}
