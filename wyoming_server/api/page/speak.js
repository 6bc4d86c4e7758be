// @ts-check
/** The button that lets a person speak, and what comes of it. */

import { read, write } from "./api.js";
import { Dictation } from "./dictation.js";
import { byId, html, say } from "./dom.js";
import { Microphone, hindrance, loudness } from "./microphone.js";
import { backendName, languageName, wait, word } from "./words.js";

const KEY = "stt-failover.spoken";
const DENIED = new Set(["NotAllowedError", "SecurityError"]);
const MISSING = new Set(["NotFoundError", "OverconstrainedError"]);

/** @typedef {"idle" | "opening" | "listening" | "waiting"} State */

/** @type {State} */
let state = "idle";
/** @type {Microphone | null} */
let microphone = null;
/** @type {Dictation | null} */
let dictation = null;
/** @type {string[]} */
let offered = [];
/** @type {import("./dictation.js").Answer | null} */
let latest = null;
/** @type {unknown} why the microphone could not be opened */
let trouble = null;

/** Make the button work. */
export function prepareSpeaking() {
  byId("microphone").addEventListener("click", () => void press());
  byId("spoken").addEventListener("change", () => write(KEY, spoken().value || null));
}

/** Write all anew, in another language. */
export function relabelSpeaking() {
  const problem = hindrance();
  const line = byId("microphone-problem");
  line.hidden = !problem;
  say(line, problem ? word(problem) : "");
  byId("microphone").setAttribute("aria-disabled", String(Boolean(problem)));
  offer(offered);
  turn(state);
  if (byId("heard").dataset.kind === "partial") return;
  if (latest) tell(latest);
  else if (trouble) show("error", problemOf(trouble));
  else if (state === "idle") show("none", problem ? "" : word("speak.ready"));
  else if (state !== "opening") show("none", word(`speak.${state}`));
}

/**
 * The languages that can be spoken.
 * @param {string[]} codes
 */
export function offer(codes) {
  const select = spoken();
  const label = select.dataset.shown;
  const shown = `${document.documentElement.lang} ${codes.join(" ")}`;
  if (label === shown) return;
  offered = codes;
  const kept = select.options.length ? select.value : (read(KEY) ?? "");
  const named = codes.map((code) => ({ code, name: languageName(code) }));
  named.sort((one, other) => one.name.localeCompare(other.name, document.documentElement.lang));
  const options = named.map(({ code, name }) => html("option", { value: code }, name));
  select.replaceChildren(html("option", { value: "" }, word("speak.detect")), ...options);
  if (codes.length) select.dataset.shown = shown;
  select.value = codes.includes(kept) ? kept : "";
}

/** Let go of the microphone, whatever it was doing. */
export function hush() {
  dictation?.drop();
}

async function press() {
  if (hindrance()) return;
  if (state === "idle") await listen();
  else if (state === "listening") await finish();
}

async function listen() {
  turn("opening");
  latest = trouble = null;
  show("none", "");
  by("", "");
  /** @type {Dictation | null} */
  let talk = null;
  const ear = new Microphone(
    (pcm) => {
      talk?.audio(pcm);
      level(loudness(pcm));
    },
    () => {
      if (state === "listening" && microphone === ear) void finish();
    },
  );
  try {
    await ear.open(); // first, as a person may take a while to allow it
  } catch (error) {
    trouble = error;
    turn("idle");
    show("error", problemOf(error));
    return;
  }
  talk = new Dictation(spoken().value || null, (text) => show("partial", text));
  [dictation, microphone] = [talk, ear];
  turn("listening");
  if (byId("heard").dataset.kind === "none") show("none", word("speak.listening"));
  latest = await talk.answer; // it may come before the person stops: at a limit, or from an error
  await ear.close();
  turn("idle");
  tell(latest);
}

async function finish() {
  const [talk, ear] = [dictation, microphone];
  turn("waiting");
  if (byId("heard").dataset.kind === "none") show("none", word("speak.waiting"));
  await ear?.close();
  talk?.stop();
}

/** @param {import("./dictation.js").Answer} answer */
function tell({ kind, text, backend, ms }) {
  if (kind === "cut") return show("error", word("speak.cut"));
  if (kind === "error") return show("error", text);
  show("final", text || word("speak.silence"));
  if (!backend) return by("", word("speak.nobody"));
  const key = ms === null ? "speak.by-early" : "speak.by";
  return by(backend, word(key, { backend: backendName(backend), ms: wait(ms) }));
}

/** @param {State} wanted */
function turn(wanted) {
  state = wanted;
  const button = byId("microphone");
  const isBusy = state === "opening" || state === "waiting";
  button.setAttribute("aria-pressed", String(state === "listening"));
  button.setAttribute("aria-busy", String(isBusy));
  button.dataset.state = state;
  const key = isBusy ? "speak.busy" : state === "listening" ? "speak.stop" : "speak.start";
  say(/** @type {Element} */ (button.querySelector(".text")), word(key));
  byId("level").hidden = state !== "listening";
}

/**
 * @param {"none" | "partial" | "final" | "error"} kind
 * @param {string} text
 */
function show(kind, text) {
  byId("heard").dataset.kind = kind;
  say(byId("heard"), text);
}

/**
 * @param {string} backend
 * @param {string} text
 */
function by(backend, text) {
  byId("heard-by").dataset.backend = backend;
  say(byId("heard-by"), text);
}

/** @param {number} value */
function level(value) {
  /** @type {HTMLMeterElement} */ (byId("level")).value = value;
}

/** @param {unknown} error */
function problemOf(error) {
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  if (DENIED.has(name)) return word("speak.denied");
  if (MISSING.has(name)) return word("speak.missing");
  return word("speak.failed", { error: error instanceof Error ? error.message : String(error) });
}

function spoken() {
  return /** @type {HTMLSelectElement} */ (byId("spoken"));
}
