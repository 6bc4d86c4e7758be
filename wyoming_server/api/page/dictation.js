// @ts-check
/** One utterance over /ws/stt, as docs/ws-stt.md has it. */

import { open } from "./api.js";

const ANSWER_MS = 70_000;

/**
 * @typedef {object} Answer
 * @property {"final" | "error" | "cut"} kind
 * @property {string} text the words, or what went wrong
 * @property {string} backend who answered; empty for nobody
 * @property {number | null} ms from `stop` to the words; null where they came before it
 */

export class Dictation {
  /**
   * @param {string | null} language
   * @param {(text: string) => void} partial
   */
  constructor(language, partial) {
    /** @type {(string | ArrayBuffer)[]} */
    this._unsent = [JSON.stringify({ type: "start", language })];
    this._stoppedAt = 0;
    this._socket = open("ws/stt");
    /** @type {Promise<Answer>} */
    this.answer = new Promise((resolve) => this._follow(resolve, partial));
  }

  /** @param {ArrayBuffer} pcm */
  audio(pcm) {
    if (!this._stoppedAt) this._send(pcm);
  }

  /** The person has stopped. */
  stop() {
    if (this._stoppedAt) return;
    this._stoppedAt = performance.now();
    this._send(JSON.stringify({ type: "stop" }));
    setTimeout(() => this._socket.close(), ANSWER_MS);
  }

  /** The answer is not wanted any more. */
  drop() {
    this._socket.close();
  }

  /** @param {string | ArrayBuffer} message */
  _send(message) {
    if (this._socket.readyState === WebSocket.OPEN) this._socket.send(message);
    else if (this._socket.readyState === WebSocket.CONNECTING) this._unsent.push(message);
  }

  /**
   * @param {(answer: Answer) => void} resolve
   * @param {(text: string) => void} partial
   */
  _follow(resolve, partial) {
    const socket = this._socket;
    socket.onopen = () => {
      for (const message of this._unsent.splice(0)) socket.send(message);
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "partial") partial(String(message.text));
      if (message.type !== "final" && message.type !== "error") return;
      const ms = this._stoppedAt ? performance.now() - this._stoppedAt : null;
      const text = String(message.type === "final" ? message.text : message.message);
      resolve({ kind: message.type, text, backend: String(message.model ?? ""), ms });
      socket.close();
    };
    socket.onclose = () => resolve({ kind: "cut", text: "", backend: "", ms: null });
  }
}
