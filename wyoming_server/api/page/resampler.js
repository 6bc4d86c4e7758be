// @ts-check
/** Any rate to 16 kHz, by a windowed sinc; keeps its state from block to block. */

export const RATE = 16_000;
const LOBES = 16;
/** Where the filter begins to close, as a share of what the lower rate can carry. */
const PASS = 0.92;

export class Resampler {
  /** @param {number} rate samples a second of what comes in, a whole number */
  constructor(rate) {
    const common = divisor(rate, RATE);
    this._phases = RATE / common;
    this._step = rate / common;
    const cutoff = Math.min(1, RATE / rate) * PASS;
    this._half = Math.ceil(LOBES / cutoff);
    this._taps = Array.from({ length: this._phases }, (_, phase) =>
      kernel(phase / this._phases, this._half, cutoff),
    );
    this._kept = new Float32Array(this._half); // silence before the first sample
    this._next = this._half * this._phases; // where the next output lies, in phases from the first kept sample
  }

  /**
   * @param {Float32Array} samples
   * @returns {Float32Array} what can be said of them so far
   */
  push(samples) {
    const input = new Float32Array(this._kept.length + samples.length);
    input.set(this._kept);
    input.set(samples, this._kept.length);
    const output = [];
    let position = this._next;
    for (;;) {
      const centre = Math.floor(position / this._phases);
      if (centre + this._half >= input.length) break;
      const taps = /** @type {Float32Array} */ (this._taps[position % this._phases]);
      const first = centre - this._half + 1;
      let sum = 0;
      for (let index = 0; index < taps.length; index += 1)
        sum += /** @type {number} */ (taps[index]) * /** @type {number} */ (input[first + index]);
      output.push(sum);
      position += this._step;
    }
    const done = Math.max(Math.floor(position / this._phases) - this._half, 0);
    const from = Math.min(done, input.length);
    this._kept = input.slice(from);
    this._next = position - from * this._phases;
    return Float32Array.from(output);
  }
}

/**
 * @param {number} offset of the output after the sample before it, from 0 to 1
 * @param {number} half
 * @param {number} cutoff
 */
function kernel(offset, half, cutoff) {
  const taps = new Float32Array(2 * half);
  let sum = 0;
  for (let index = 0; index < taps.length; index += 1) {
    const distance = index - half + 1 - offset;
    const x = Math.PI * cutoff * distance;
    const sinc = x === 0 ? 1 : Math.sin(x) / x;
    const hann = 0.5 + 0.5 * Math.cos((Math.PI * distance) / half);
    taps[index] = Math.abs(distance) < half ? sinc * hann : 0;
    sum += /** @type {number} */ (taps[index]);
  }
  return taps.map((tap) => tap / sum);
}

/**
 * @param {number} one
 * @param {number} other
 * @returns {number}
 */
function divisor(one, other) {
  return other ? divisor(other, one % other) : one;
}
