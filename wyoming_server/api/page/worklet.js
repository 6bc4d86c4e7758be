// @ts-check
/** What the microphone hears, as 16 kHz mono s16le in pieces of 64 ms; runs on the audio thread. */

import { RATE, Resampler } from "./resampler.js";

const PIECE = RATE * 0.064;

class Ear extends AudioWorkletProcessor {
  constructor() {
    super();
    this._resampler = new Resampler(Math.round(sampleRate));
    this._piece = new DataView(new ArrayBuffer(2 * PIECE));
    this._filled = 0;
    this._isOpen = true;
    this.port.onmessage = () => {
      this._isOpen = false;
      this._send();
      this.port.postMessage(null); // that was all
    };
  }

  /** @param {Float32Array[][]} inputs */
  process([channels]) {
    if (this._isOpen && channels?.length) {
      for (const sample of this._resampler.push(mixed(channels))) this._write(sample);
    }
    return this._isOpen;
  }

  /** @param {number} sample from -1 to 1 */
  _write(sample) {
    const clipped = Math.max(-1, Math.min(1, sample));
    this._piece.setInt16(2 * this._filled, Math.round(clipped * 32_767), true);
    this._filled += 1;
    if (this._filled === PIECE) this._send();
  }

  _send() {
    if (this._filled) this.port.postMessage(this._piece.buffer.slice(0, 2 * this._filled));
    this._filled = 0;
  }
}

/** @param {Float32Array[]} channels */
function mixed(channels) {
  const [first] = channels;
  if (channels.length === 1) return first;
  return first.map(
    (_, index) => channels.reduce((sum, channel) => sum + channel[index], 0) / channels.length,
  );
}

registerProcessor("ear", Ear);
