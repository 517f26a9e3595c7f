// The linear model of word n-grams: hashes as cpp/text.cpp has them, and scores.

const MASK = (1n << 64n) - 1n;

function mix(x) {
  x = (x * 0x9e3779b97f4a7c15n) & MASK;
  x ^= x >> 32n;
  return (x * 0xd6e8feb86659fd93n) & MASK;
}

// UTF-8, a lone surrogate being encoded by itself.
export function utf8(word) {
  const bytes = [];
  for (const character of word) {
    const code = character.codePointAt(0);
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
    else if (code < 0x10000)
      bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else
      bytes.push(
        0xf0 | (code >> 18),
        0x80 | ((code >> 12) & 63),
        0x80 | ((code >> 6) & 63),
        0x80 | (code & 63),
      );
  }
  return bytes;
}

function littleEndian(bytes, at) {
  let value = 0n;
  for (let i = 7; i >= 0; --i) value = (value << 8n) | BigInt(bytes[at + i]);
  return value;
}

export function hashWord(word) {
  const bytes = utf8(word);
  const size = BigInt(bytes.length);
  if (bytes.length <= 8) {
    let value = 0n;
    for (const byte of bytes) value = (value << 8n) | BigInt(byte);
    return mix(value ^ (size << 56n) ^ 0x9e3779b97f4a7c15n);
  }
  let state = size;
  for (let i = 0; i + 8 < bytes.length; i += 8) state = mix(state ^ littleEndian(bytes, i));
  return mix(state ^ littleEndian(bytes, bytes.length - 8));
}

export class NgramModel {
  // weights: Float32Array [2^bits * logits]; bias: [logits].
  constructor({ longest, bits }, weights, bias) {
    this.longest = longest;
    this.bits = bits;
    this.weights = weights;
    this.bias = bias;
    this.hashes = new Map();
  }

  #hash(word) {
    let found = this.hashes.get(word);
    if (found === undefined) {
      if (this.hashes.size > 100_000) this.hashes.clear();
      this.hashes.set(word, (found = hashWord(word)));
    }
    return found;
  }

  // The buckets of the n-grams that end with token `last` and begin at `first` or later; where
  // `across` is given, only of those that reach back to before it.
  *#ending(tokens, last, across = Infinity) {
    let state = 0n;
    for (let n = 0; n < this.longest && last - n >= 0; ++n) {
      state = (mix(state ^ this.#hash(tokens[last - n])) + BigInt(n + 1)) & MASK;
      if (last - n < across) yield Number(mix(state) >> BigInt(64 - this.bits));
    }
  }

  // How often each bucket is there.
  count(tokens) {
    const counts = new Map();
    for (let last = 0; last < tokens.length; ++last) this.#grow(counts, tokens, last);
    return counts;
  }

  #grow(counts, tokens, last) {
    const added = [];
    for (const bucket of this.#ending(tokens, last)) {
      const before = counts.get(bucket) ?? 0;
      if (!before) added.push(bucket);
      counts.set(bucket, before + 1);
    }
    return added;
  }

  // scores += sign times a bucket's weights.
  #add(scores, bucket, sign) {
    const logits = this.bias.length;
    for (let l = 0; l < logits; ++l) scores[l] += sign * this.weights[bucket * logits + l];
  }

  scores(tokens) {
    const scores = Float64Array.from(this.bias);
    for (const bucket of this.count(tokens).keys()) this.#add(scores, bucket, 1);
    return scores;
  }

  // The scores after 0, 1, 2 and more tokens.
  *grown(tokens) {
    const scores = Float64Array.from(this.bias);
    const counts = new Map();
    yield scores.slice();
    for (let last = 0; last < tokens.length; ++last) {
      for (const bucket of this.#grow(counts, tokens, last)) this.#add(scores, bucket, 1);
      yield scores.slice();
    }
  }

  // The scores without tokens [begin, end). counts, whole: of all tokens.
  without(tokens, begin, end, counts, whole) {
    const scores = whole.slice();
    const changes = new Map();
    const change = (bucket, by) => changes.set(bucket, (changes.get(bucket) ?? 0) + by);
    const reach = Math.min(tokens.length, end + this.longest - 1);
    for (let last = begin; last < reach; ++last)
      for (const bucket of this.#ending(tokens, last, end)) change(bucket, -1);
    const joined = [
      ...tokens.slice(Math.max(0, begin - this.longest + 1), begin),
      ...tokens.slice(end, reach),
    ];
    const seam = joined.length - (reach - end);
    for (let last = seam; last < joined.length; ++last)
      for (const bucket of this.#ending(joined, last, seam)) change(bucket, 1);
    for (const [bucket, by] of changes) {
      const before = counts.get(bucket) ?? 0;
      if (!before && before + by > 0) this.#add(scores, bucket, 1);
      else if (before > 0 && before + by === 0) this.#add(scores, bucket, -1);
    }
    return scores;
  }
}
