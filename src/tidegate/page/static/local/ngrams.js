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

  // The buckets of the n-grams that end with token `last`, n = 1, 2 and more.
  *#ending(tokens, last) {
    let state = 0n;
    for (let n = 0; n < this.longest && last - n >= 0; ++n) {
      state = (mix(state ^ this.#hash(tokens[last - n])) + BigInt(n + 1)) & MASK;
      yield Number(mix(state) >> BigInt(64 - this.bits));
    }
  }

  // What stands in a text: the buckets of the n-grams that end with each token, [T][n], and how often
  // each bucket is there.
  *grams(tokens) {
    const ending = [];
    const counts = new Map();
    for (let last = 0; last < tokens.length; ++last) {
      const buckets = [...this.#ending(tokens, last)];
      for (const bucket of buckets) counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
      ending.push(buckets);
      if (last % 1024 === 1023) yield;
    }
    return { ending, counts };
  }

  // scores += a share of a bucket's weights.
  #add(scores, bucket, share) {
    const logits = this.bias.length;
    for (let l = 0; l < logits; ++l) scores[l] += share * this.weights[bucket * logits + l];
  }

  // [L] what the n-grams say of a text, each of them multiplied by `grown`.
  scores({ counts }, grown = 1) {
    const scores = Float64Array.from(this.bias);
    for (const bucket of counts.keys()) this.#add(scores, bucket, grown);
    return scores;
  }

  // The scores after 0, 1, 2 and more tokens.
  *grown({ ending }) {
    const scores = Float64Array.from(this.bias);
    const seen = new Set();
    yield scores.slice();
    for (const buckets of ending) {
      for (const bucket of buckets) {
        if (!seen.has(bucket)) this.#add(scores, bucket, 1);
        seen.add(bucket);
      }
      yield scores.slice();
    }
  }

  // [T] what each token adds to the scores times `direction` [L]. What an n-gram adds is shared
  // equally by all its occurrences, and by the tokens of each.
  shares({ ending, counts }, direction) {
    const each = new Map();
    for (const [bucket, count] of counts) {
      const sum = direction.reduce((all, d, l) => all + this.weights[bucket * direction.length + l] * d, 0);
      each.set(bucket, sum / count);
    }
    const found = new Float64Array(ending.length);
    // In the order of TextNgrams.shares, so that what is equal there is so here.
    for (let n = 1; n <= this.longest; ++n)
      for (let j = 0; j < n; ++j)
        for (let last = n - 1; last < ending.length; ++last)
          found[last - n + 1 + j] += each.get(ending[last][n - 1]) / n;
    return found;
  }
}
