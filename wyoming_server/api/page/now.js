// @ts-check
/** Who answers now, at a glance, and how the day went. */

import { byId, html, say } from "./dom.js";
import { backendName, clock, count, errorName, list, percent, wait, word } from "./words.js";

/** @typedef {{level: "well" | "warn" | "bad", name: string, title: string, why: string}} Verdict */

/**
 * Who would be asked first, and whether that is as it should be.
 * @param {any} status as of /api/status
 * @returns {Verdict}
 */
export function verdict(status) {
  const wanted = status.backends.filter((/** @type {any} */ item) => item.enabled && !item.missing);
  const asked = wanted.filter((/** @type {any} */ item) => item.state === "closed");
  const nobody = word("now.nobody");
  if (!wanted.length) return { level: "bad", name: "", title: nobody, why: word("now.no-backend") };
  if (!asked.length) return { level: "bad", name: "", title: nobody, why: word("now.all-open") };
  // Who has used up the budget is asked last.
  const first = asked.find((/** @type {any} */ item) => !item.over_budget) ?? asked[0];
  const names = asked.map((/** @type {any} */ item) => backendName(item.name));
  const passed = wanted
    .slice(0, wanted.indexOf(first))
    .map((/** @type {any} */ item) => backendName(item.name));
  const isRace = status.strategy === "race" && asked.length > 1;
  const why = isRace ? word("now.race", { others: list(names) }) : word("now.well");
  return {
    level: passed.length ? "warn" : "well",
    name: isRace ? "" : first.name,
    title: isRace ? word("now.all") : backendName(first.name),
    why: passed.length && !isRace ? word("now.instead", { others: list(passed) }) : why,
  };
}

/** @param {any} status */
export function showNow(status) {
  const found = verdict(status);
  const unanswered = status.problem === "unanswered";
  byId("now").dataset.level = unanswered && found.level === "well" ? "warn" : found.level;
  byId("now-name").dataset.backend = found.name;
  say(byId("now-name"), found.title);
  document.title = `${found.title} · stt-failover`;
  say(byId("now-why"), [found.why, lastOf(status.last)].filter(Boolean).join(" "));
  const day = status.day;
  byId("day").replaceChildren(
    tile("day.utterances", count(day.utterances)),
    tile("day.availability", day.availability === null ? "–" : percent(day.availability)),
    tile("day.failovers", count(day.failovers)),
    tile("day.median", wait(day.median_ms)),
  );
}

/** @param {any} last */
function lastOf(last) {
  if (!last) return "";
  if (last.error) return word("now.unanswered", { error: errorName(last.error) });
  const time = clock(last.at);
  if (!last.backend) return word("now.quiet", { time });
  return word("now.last", { time, backend: backendName(last.backend), ms: wait(last.ms) });
}

/**
 * @param {string} key
 * @param {string} value
 */
function tile(key, value) {
  return html("div", {}, html("dt", {}, word(key)), html("dd", {}, value));
}
