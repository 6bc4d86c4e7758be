// @ts-check
/** The microphone, as pieces of 16 kHz mono s16le. */

const WANTED = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/** Why there is none in this browser, as a key of the words; empty where there may be one. */
export function hindrance() {
  if (!window.isSecureContext) return "speak.insecure";
  if (!navigator.mediaDevices?.getUserMedia || !("AudioWorkletNode" in window)) return "speak.unsupported";
  return "";
}

export class Microphone {
  /**
   * @param {(pcm: ArrayBuffer) => void} heard
   * @param {() => void} lost it was unplugged, or the browser has taken it away
   */
  constructor(heard, lost) {
    this._heard = heard;
    this._lost = lost;
    /** @type {MediaStream | null} */
    this._stream = null;
    /** @type {AudioContext | null} */
    this._context = null;
    /** @type {AudioWorkletNode | null} */
    this._node = null;
  }

  /** Begin to listen; throws what getUserMedia throws. To be called from a press of a button. */
  async open() {
    const context = new AudioContext();
    this._context = context;
    try {
      const loading = context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url).href);
      loading.catch(() => undefined); // waited for below, unless there is no microphone anyway
      this._stream = await navigator.mediaDevices.getUserMedia({ audio: WANTED });
      await loading;
      await context.resume();
      const [track] = this._stream.getAudioTracks();
      if (track.readyState === "ended") throw new DOMException("", "NotFoundError");
      track.addEventListener("ended", this._lost);
      this._node = new AudioWorkletNode(context, "ear");
      this._node.port.onmessage = ({ data }) => data && this._heard(data);
      context.createMediaStreamSource(this._stream).connect(this._node);
      this._node.connect(context.destination); // which it gives silence; it would not run otherwise
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Hand over the rest, and let go of the microphone. */
  async close() {
    const [node, stream, context] = [this._node, this._stream, this._context];
    this._node = this._stream = this._context = null;
    if (node) await rest(node, this._heard);
    stream?.getTracks().forEach((track) => track.stop());
    await context?.close().catch(() => undefined);
  }
}

/**
 * @param {AudioWorkletNode} node
 * @param {(pcm: ArrayBuffer) => void} heard
 */
function rest(node, heard) {
  return new Promise((resolve) => {
    const giveUp = setTimeout(resolve, 500);
    node.port.onmessage = ({ data }) => {
      if (data) return heard(data);
      clearTimeout(giveUp);
      return resolve(undefined);
    };
    node.port.postMessage("stop");
  });
}

/**
 * How loud a piece is, from 0 to 1.
 * @param {ArrayBuffer} pcm
 */
export function loudness(pcm) {
  const samples = new DataView(pcm);
  let sum = 0;
  for (let at = 0; at + 1 < pcm.byteLength; at += 2) sum += (samples.getInt16(at, true) / 32_768) ** 2;
  const decibels = 10 * Math.log10(sum / Math.max(pcm.byteLength / 2, 1) + 1e-9);
  return Math.max(0, Math.min(1, (decibels + 60) / 50));
}
