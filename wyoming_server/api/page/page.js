// @ts-check
/** The status page: who may see it, what it shows, and how it stays up to date. */

import { ApiError, ask, isPossible, token } from "./api.js";
import { reason, relabelBackends, showBackends, tickBackends } from "./backends.js";
import { showCharts } from "./charts.js";
import { showCosts } from "./costs.js";
import { byId, say } from "./dom.js";
import { Feed } from "./feed.js";
import { showNow } from "./now.js";
import { hush, offer, prepareSpeaking, relabelSpeaking } from "./speak.js";
import { addUtterance, showLegend, showUtterances } from "./utterances.js";
import { label, language, seconds, span, speakIn, word } from "./words.js";

const MOST_TRACES = 50;
const DAY_PAUSE_MS = 2_000;
const DAY_EVERY_MS = 300_000;
const RETRY_MS = 5_000;

/** What is known, to be written anew in another language. */
const known = {
  /** @type {any} */ status: null,
  /** @type {any[]} */ traces: [],
  /** @type {any[]} */ hours: [],
  /** @type {[string, number]} */ connection: ["connecting", 0],
  /** Whether the feed has told how everything is since that was asked for. */
  isFollowing: false,
  tokenMessage: "",
  /** What came of the latest action, in the language of the page. */
  action: () => "",
};
const feed = new Feed({ message, state: connection, mayConnect: refresh });
let dayTimer = 0;
let retryTimer = 0;

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void enter();
});
byId("forget").addEventListener("click", () => {
  token.set("");
  askForToken("token.forgotten");
});
token.follow((value) => {
  if (!value) askForToken("token.forgotten");
  else if (!known.status) void begin();
});
byId("reconnect").addEventListener("click", () => feed.hurry());
byId("warm").addEventListener("click", () => void act("api/warm", "warm.done"));
byId("close-breakers").addEventListener("click", () => void act("api/close-breakers", "close.done"));
byId("language").addEventListener("change", () => {
  speakIn(/** @type {HTMLSelectElement} */ (byId("language")).value);
  relabel();
});
addEventListener("online", () => feed.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") feed.hurry();
});
setInterval(tick, 1_000);
setInterval(() => known.status && loadDay(), DAY_EVERY_MS);
prepareSpeaking();
relabel();
void begin();

/** Show the page to who may see it: nobody is asked for a token who needs none. */
async function begin() {
  clearTimeout(retryTimer);
  connection("connecting", 0);
  try {
    if (await refresh()) feed.start();
  } catch (error) {
    retryTimer = setTimeout(() => void begin(), RETRY_MS);
    connection("waiting", Date.now() + RETRY_MS);
    explain(error);
    if (!known.status) byId("welcome").hidden = false;
  }
}

/**
 * Fetch all that is shown; false where the token is not accepted, and then asks for one.
 * @returns {Promise<boolean>}
 */
async function refresh() {
  const used = token.value;
  try {
    const status = await ask("api/status"); // first, so that who needs a token is refused once
    const [{ traces }, { hours }] = await Promise.all([ask("api/traces"), ask("api/day")]);
    if (used && !token.value) return false; // forgotten meanwhile
    Object.assign(known, { traces, hours });
    known.isFollowing = false;
    reveal();
    show(status);
    showUtterances(traces);
    showCharts(hours);
    return true;
  } catch (error) {
    if (!(error instanceof ApiError) || !error.isRefusal) throw error;
    const isKnown = token.value !== used || token.refused();
    if (!isKnown) askForToken(used ? "token.expired" : "");
    return isKnown && token.value ? refresh() : false; // another tab has a newer one, or has forgotten it
  }
}

/** What a person has entered as the token. */
async function enter() {
  const field = /** @type {HTMLInputElement} */ (byId("token"));
  const value = field.value.trim();
  tokenMessage("");
  if (!value || !isPossible(value)) {
    tokenMessage(value ? "token.impossible" : "token.missing");
    field.focus();
    return;
  }
  token.lend(value);
  clearTimeout(retryTimer);
  try {
    await ask("api/status");
  } catch (error) {
    if (!(error instanceof ApiError) || error.status) {
      if (token.value === value) token.lend(""); // else another tab has stored one meanwhile
      explain(error);
      field.focus();
      return;
    }
  }
  token.set(value);
  await begin();
  if (known.status) byId("content").focus({ preventScroll: true });
}

/** Say why there is nothing to see. @param {unknown} error */
function explain(error) {
  const isApi = error instanceof ApiError;
  if (isApi && error.isRefusal) tokenMessage("token.refused");
  else if (isApi && error.status === 401) tokenMessage("token.proxy");
  else if (!isApi || !error.message) tokenMessage("token.unreachable");
  else {
    known.tokenMessage = "";
    say(byId("token-message"), error.message);
  }
}

/** @param {string} key why, as a key of the words; empty at the first visit */
function askForToken(key) {
  clearTimeout(retryTimer);
  clearTimeout(dayTimer);
  feed.stop();
  hush();
  known.status = null;
  document.title = "stt-failover";
  byId("status").hidden = true;
  byId("forget").hidden = true;
  byId("reconnect").hidden = true;
  byId("connection").hidden = true;
  byId("welcome").hidden = false;
  say(byId("about"), "");
  tokenMessage(key);
  byId("token").focus();
}

function reveal() {
  byId("welcome").hidden = true;
  byId("status").hidden = false;
  byId("connection").hidden = false;
  byId("forget").hidden = !token.value;
  /** @type {HTMLInputElement} */ (byId("token")).value = "";
  tokenMessage("");
}

/** @param {any} news a message of /api/events */
function message(news) {
  if (news.type === "status") {
    // Something was said between the last look and the first message of the feed.
    const isBehind =
      !known.isFollowing && JSON.stringify(news.status.last) !== JSON.stringify(known.status?.last);
    known.isFollowing = true;
    show(news.status);
    if (isBehind) void loadTraces();
  }
  if (news.type !== "utterance") return;
  known.traces = [...known.traces, news.trace].slice(-MOST_TRACES);
  addUtterance(news.trace);
  loadDaySoon();
}

/** @param {any} status */
function show(status) {
  known.status = status;
  showNow(status);
  showBackends(status);
  showCosts(status);
  offer(status.languages);
  about();
}

function about() {
  const status = known.status;
  if (!status) return;
  const { version, wyoming, strategy } = status;
  say(byId("about"), word("about", { version, wyoming, strategy, uptime: span(status.uptime) }));
}

/** Fetch what the feed has not told. */
async function loadTraces() {
  const { traces } = await ask("api/traces").catch(() => ({ traces: [] }));
  const seen = new Set(known.traces.map((trace) => trace.at));
  for (const trace of traces) if (!seen.has(trace.at)) message({ type: "utterance", trace });
}

function loadDaySoon() {
  clearTimeout(dayTimer);
  dayTimer = setTimeout(loadDay, known.hours.length ? 300 : DAY_PAUSE_MS);
}

async function loadDay() {
  try {
    known.hours = (await ask("api/day")).hours;
    showCharts(known.hours);
  } catch {
    // the feed says whether the server answers
  }
}

/**
 * @param {string} page
 * @param {string} done
 */
async function act(page, done) {
  known.action = () => "";
  say(byId("action-result"), "");
  try {
    await ask(page, { method: "POST" });
    known.action = () => word(done);
  } catch (error) {
    known.action = () => word("action.failed", { error: reason(error) });
  }
  say(byId("action-result"), known.action());
}

/**
 * @param {string} state
 * @param {number} retryAt
 */
function connection(state, retryAt) {
  known.connection = [state, retryAt];
  byId("connection").dataset.state = state;
  byId("reconnect").hidden = state !== "waiting" || !known.status;
  const left = Math.max(Math.ceil((retryAt - Date.now()) / 1000), 0);
  say(/** @type {Element} */ (byId("connection").querySelector(".text")), word(`connection.${state}`));
  // Beside what is read aloud: nobody wants to hear every second pass.
  say(byId("retry"), state === "waiting" ? word("connection.retry", { seconds: seconds(left, 0) }) : "");
}

/** @param {string} key */
function tokenMessage(key) {
  known.tokenMessage = key;
  say(byId("token-message"), key ? word(key) : "");
}

function tick() {
  tickBackends();
  if (known.connection[0] === "waiting") connection(...known.connection);
}

function relabel() {
  /** @type {HTMLSelectElement} */ (byId("language")).value = language();
  label();
  showLegend();
  relabelBackends();
  relabelSpeaking();
  connection(...known.connection);
  tokenMessage(known.tokenMessage);
  say(byId("action-result"), known.action());
  if (!known.status) return;
  show(known.status);
  showUtterances(known.traces);
  showCharts(known.hours);
}
