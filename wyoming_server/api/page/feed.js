// @ts-check
/** What happens, as it happens: /api/events, connected again whenever it breaks. */

import { open } from "./api.js";

const FIRST_MS = 500;
const MOST_MS = 30_000;
const OPENING_MS = 10_000;

/**
 * @typedef {object} Listener
 * @property {(message: any) => void} message
 * @property {(state: "connecting" | "live" | "waiting", retryAt: number) => void} state `retryAt` as Date.now()
 * @property {() => Promise<boolean>} mayConnect asked before each further attempt: false ends the feed
 */

export class Feed {
  /** @param {Listener} listener */
  constructor(listener) {
    this._listener = listener;
    this._failures = 0;
    this._timer = 0;
    /** @type {WebSocket | null} */
    this._socket = null;
    this._isWanted = false;
  }

  /** Connect, and stay connected. */
  start() {
    this._isWanted = true;
    this._failures = 0;
    this._connect();
  }

  /** Be connected no longer. */
  stop() {
    this._isWanted = false;
    clearTimeout(this._timer);
    this._drop();
  }

  /** Do not wait any longer for the next attempt. */
  hurry() {
    if (!this._isWanted || this._socket) return;
    clearTimeout(this._timer);
    this._failures = 0;
    void this._again();
  }

  _connect() {
    this._drop();
    this._listener.state("connecting", 0);
    const socket = open("api/events");
    this._socket = socket;
    const opening = setTimeout(() => socket.close(), OPENING_MS);
    socket.onmessage = (event) => {
      clearTimeout(opening);
      if (this._socket !== socket) return;
      this._failures = 0;
      this._listener.state("live", 0);
      this._listener.message(JSON.parse(event.data));
    };
    socket.onclose = () => {
      clearTimeout(opening);
      if (this._socket !== socket) return;
      this._socket = null;
      this._wait();
    };
  }

  _wait() {
    if (!this._isWanted) return;
    const most = Math.min(FIRST_MS * 2 ** this._failures, MOST_MS);
    const pause = most * (0.8 + 0.4 * Math.random()); // so that not all pages come back at once
    this._failures += 1;
    this._listener.state("waiting", Date.now() + pause);
    this._timer = setTimeout(() => void this._again(), pause);
  }

  async _again() {
    this._listener.state("connecting", 0);
    const mayConnect = await this._listener.mayConnect().catch(() => null);
    if (!this._isWanted || this._socket) return;
    if (mayConnect) this._connect();
    else if (mayConnect === null) this._wait();
    else this.stop();
  }

  _drop() {
    const socket = this._socket;
    this._socket = null;
    socket?.close();
  }
}
