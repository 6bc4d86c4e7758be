// @ts-check
/** The language of the page: its words, and its way to write numbers, dates and money. */

import { read, write } from "./api.js";
import { words as english } from "./words.en.js";
import { words as chinese } from "./words.zh.js";

const KEY = "stt-failover.language";
const LANGUAGES = {
  en: { tag: "en", words: english },
  zh: { tag: "zh-Hans", words: chinese },
};

/** @typedef {keyof typeof LANGUAGES} Language */

/** @type {Language} */
let present = chosen();

/** The language of the page. */
export function language() {
  return present;
}

/**
 * Speak another language from now on, and remember that.
 * @param {string} wanted
 */
export function speakIn(wanted) {
  if (wanted !== "en" && wanted !== "zh") return;
  present = wanted;
  write(KEY, wanted);
}

/**
 * A text, with what stands in braces filled in; a key without one stands for itself.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function word(key, values = {}) {
  const text = LANGUAGES[present].words[key] ?? key.slice(key.indexOf(".") + 1);
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** Fill in all texts that do not change. */
export function label() {
  document.documentElement.lang = LANGUAGES[present].tag;
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = word(String(element.getAttribute("data-text")));
  }
}

/** @param {string} name of a backend, empty for none */
export function backendName(name) {
  return word(`backend.${name}`);
}

/** @param {string} code of an error */
export function errorName(code) {
  return word(`error.${code}`);
}

/** @param {string[]} items */
export function list(items) {
  return new Intl.ListFormat(locale(), { type: "conjunction" }).format(items);
}

/** @param {number} value */
export function count(value) {
  return new Intl.NumberFormat(locale()).format(value);
}

/** @param {number} share from 0 to 1; never rounded up to all */
export function percent(share) {
  const shown = share < 1 ? Math.min(share, 0.9999) : 1;
  return new Intl.NumberFormat(locale(), {
    style: "percent",
    maximumFractionDigits: shown > 0.99 ? 2 : 0,
  }).format(shown);
}

/**
 * Milliseconds as people read them: 38 ms, 1.2 s.
 * @param {number | null} ms
 */
export function wait(ms) {
  if (ms === null) return "–";
  return ms < 999.5 ? symbol(ms, "ms", 0) : symbol(ms / 1000, "s", ms < 9950 ? 2 : 1);
}

/**
 * @param {number | null} value
 * @param {number} [digits]
 */
export function seconds(value, digits = 2) {
  return value === null ? "–" : symbol(value, "s", digits);
}

/**
 * A long time, to two units: 3 hr 5 min.
 * @param {number} value in seconds
 */
export function span(value) {
  const whole = Math.round(value);
  if (whole < 60) return unit(whole, "second");
  if (whole < 3600) return `${unit(Math.floor(whole / 60), "minute")} ${unit(whole % 60, "second")}`;
  if (whole < 86_400)
    return `${unit(Math.floor(whole / 3600), "hour")} ${unit(Math.floor((whole % 3600) / 60), "minute")}`;
  return `${unit(Math.floor(whole / 86_400), "day")} ${unit(Math.floor((whole % 86_400) / 3600), "hour")}`;
}

/** @param {number} dollars */
export function money(dollars) {
  const digits = dollars !== 0 && dollars < 1 ? 4 : 2;
  const options = { currency: "USD", minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(locale(), { style: "currency", ...options }).format(dollars);
}

/**
 * The time of day, with the date where it is another one.
 * @param {string} at ISO 8601
 */
export function clock(at) {
  const date = new Date(at);
  const isToday = date.toDateString() === new Date().toDateString();
  /** @type {Intl.DateTimeFormatOptions} */
  const day = isToday ? {} : { month: "short", day: "numeric" };
  return new Intl.DateTimeFormat(locale(), {
    ...day,
    hour: "numeric",
    minute: "2-digit",
    second: "2-digit",
  }).format(date);
}

/** @param {string} at ISO 8601, the beginning of an hour */
export function hour(at) {
  return new Intl.DateTimeFormat(locale(), { hour: "numeric", minute: "2-digit" }).format(new Date(at));
}

/** The same, as short as can be. @param {string} at */
export function hourMark(at) {
  return new Intl.DateTimeFormat(locale(), { hour: "numeric" }).format(new Date(at));
}

/** @param {string} code of a language; browsers have no names for a few of Whisper's */
export function languageName(code) {
  try {
    const names = new Intl.DisplayNames(locale(), { type: "language", fallback: "none" });
    return names.of(code) ?? word(`language.${code}`);
  } catch {
    return code;
  }
}

/**
 * @param {number} value
 * @param {string} name
 */
function unit(value, name) {
  return new Intl.NumberFormat(locale(), { style: "unit", unit: name }).format(value);
}

/**
 * A number with a symbol that is the same in all languages, on one line with it.
 * @param {number} value
 * @param {string} name
 * @param {number} digits
 */
function symbol(value, name, digits) {
  return `${new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value)}\u00a0${name}`;
}

function locale() {
  // The reader's own way to write numbers, if it belongs to the language of the page.
  const own = (navigator.languages ?? []).find((tag) => tag.toLowerCase().startsWith(present));
  return own ?? LANGUAGES[present].tag;
}

/** @returns {Language} */
function chosen() {
  const kept = read(KEY);
  if (kept === "en" || kept === "zh") return kept;
  return navigator.language?.toLowerCase().startsWith("zh") ? "zh" : "en";
}
