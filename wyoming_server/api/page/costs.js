// @ts-check
/** What each backend has cost today and this month, and all together. */

import { byId, html } from "./dom.js";
import { backendName, money, span, word } from "./words.js";

const COLUMNS = ["costs.backend", "costs.today", "costs.month", "costs.time"];

/** @param {any} status as of /api/status */
export function showCosts(status) {
  const rows = status.backends.map((/** @type {any} */ item) =>
    row(backendName(item.name), item.today, item.month, { "data-backend": item.name }),
  );
  const total = (/** @type {"today" | "month"} */ key, /** @type {"seconds" | "dollars"} */ what) =>
    status.backends.reduce((/** @type {number} */ sum, /** @type {any} */ item) => sum + item[key][what], 0);
  const sum = (/** @type {"today" | "month"} */ key) => ({
    seconds: total(key, "seconds"),
    dollars: total(key, "dollars"),
  });
  const head = COLUMNS.map((key) => html("th", { scope: "col" }, word(key)));
  const table = html(
    "table",
    {},
    html("thead", {}, html("tr", {}, ...head)),
    html("tbody", {}, ...rows),
    html("tfoot", {}, row(word("costs.total"), sum("today"), sum("month"), { class: "total" })),
  );
  byId("costs").querySelector(".panel")?.replaceChildren(table);
}

/**
 * @param {string} title
 * @param {{dollars: number}} today
 * @param {{dollars: number, seconds: number}} month
 * @param {Record<string, string>} attributes
 */
function row(title, today, month, attributes) {
  return html(
    "tr",
    attributes,
    html("th", { scope: "row" }, html("span", { class: "swatch" }), title),
    html("td", {}, money(today.dollars)),
    html("td", {}, money(month.dollars)),
    html("td", {}, span(month.seconds)),
  );
}
