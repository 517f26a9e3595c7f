// The page's backend where there is no server: the model in the file, computed here.

import { labelText } from "../dom.js";
import { Characters } from "./characters.js";
import { METHOD, contributionsOf, growthOf } from "./explaining.js";
import { mixed, sharesOf } from "./logits.js";
import { Network, Reading, termsAt, traced } from "./network.js";
import { NgramModel } from "./ngrams.js";
import { FIRST_WORD_ID, START_MARK, Tokenizer } from "./tokenizer.js";

const SLICE_MILLISECONDS = 12;
const MOST_GROWTH_CHARACTERS = 1_000_000;

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; ++i) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// A half-precision number from its bits.
function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// Float32Arrays by name of what Python packed: see interop/html_export.py.
export function unpack(tensors, base64) {
  const { buffer } = bytesOf(base64);
  const found = {};
  let halves = null;
  for (const { name, dtype, shape, offset, scales } of tensors) {
    const size = shape.reduce((a, b) => a * b, 1);
    if (dtype === "float32") {
      found[name] = new Float32Array(buffer, offset, size);
    } else if (dtype === "float16") {
      halves ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => half(bits));
      found[name] = new Float32Array(size);
      const stored = new Uint16Array(buffer, offset, size);
      for (let i = 0; i < size; ++i) found[name][i] = halves[stored[i]];
    } else {
      // int8: a scale for each row of the embedding, for each column of another matrix
      const codes = new Int8Array(buffer, offset, size);
      const [rows, columns] = shape;
      const byRow = name === "embedding.weight";
      const scale = new Float32Array(buffer, scales, byRow ? rows : columns);
      const values = new Float32Array(size);
      for (let r = 0, i = 0; r < rows; ++r)
        for (let c = 0; c < columns; ++c, ++i) values[i] = codes[i] * scale[byRow ? r : c];
      found[name] = values;
    }
  }
  return found;
}

function stopIfAborted(signal) {
  if (signal?.aborted) throw signal.reason;
}

// Lets the page paint and be typed into; timers would wait some milliseconds each time.
const channel = new MessageChannel();
function giveWay() {
  return new Promise((resolve) => {
    channel.port1.addEventListener("message", resolve, { once: true });
    channel.port1.start();
    channel.port2.postMessage(null);
  });
}

// Runs a generator to its end in slices, between which the page can paint and be typed into.
export async function inSlices(generator, signal) {
  for (;;) {
    const until = performance.now() + SLICE_MILLISECONDS;
    do {
      const { done, value } = generator.next();
      if (done) return value;
    } while (performance.now() < until);
    await giveWay();
    stopIfAborted(signal);
  }
}

export class Model {
  constructor(description, base64) {
    this.description = description;
    const tensors = unpack(description.tensors, base64);
    this.tokenizer = new Tokenizer(
      description.tokenizer,
      new Characters(description.characters),
    );
    this.network = new Network(description.config, tensors);
    this.classes = description.classes;
    this.mix = description.mix;
    this.thresholds = description.thresholds;
    this.ngrams = description.ngrams
      ? new NgramModel(description.ngrams, tensors["ngrams.weight"], tensors["ngrams.bias"])
      : null;
  }

  // The probabilities of all classes.
  *shares(tokens) {
    const { network } = this;
    const ids = this.tokenizer.encode(tokens, network.config.max_length);
    const logits = yield* new Reading(network).logits(network.padded(ids));
    const beside = this.ngrams && this.ngrams.scores(yield* this.ngrams.grams(tokens));
    return sharesOf(mixed(logits, beside, this.mix), network.config.targets);
  }

  // How many of the tokens that are read the model knows.
  knownWords(tokens) {
    const ids = this.tokenizer.encode(tokens, this.network.config.max_length);
    return ids.filter((id) => id >= FIRST_WORD_ID).length;
  }

  // The number of the class that is predicted.
  predicted(shares) {
    if (this.thresholds) return shares[1] >= this.thresholds[0] ? 1 : 0;
    return shares.indexOf(Math.max(...shares));
  }

  // What is said of a text with these shares, as src/tidegate/answers.py has it.
  answer(shares) {
    const names = this.classes.map((label, i) => [labelText(label), shares[i]]);
    const probabilities = Object.fromEntries(names);
    if (this.network.config.targets !== "many") {
      const number = this.predicted(shares);
      return { label: this.classes[number], probability: shares[number], probabilities };
    }
    const given = shares.map((share, i) =>
      this.thresholds ? share >= this.thresholds[i] : share > 0.5,
    );
    return {
      labels: this.classes.filter((_, i) => given[i]),
      probability: shares.reduce((all, share, i) => all * (given[i] ? share : 1 - share), 1),
      probabilities,
    };
  }
}

export class LocalBackend {
  constructor(description, base64) {
    this.model = new Model(description, base64);
    this.name = description.name;
  }

  async models() {
    const { config } = this.model.network;
    return [
      {
        name: this.name,
        cell: config.cell,
        reset: config.cell === "gru" ? config.reset : null,
        labels: this.model.classes,
        targets: config.targets,
        config,
      },
    ];
  }

  async predict(texts, _model, { signal } = {}) {
    const results = [];
    for (const text of texts) {
      const { tokens } = this.model.tokenizer.tokens(text);
      const shares = await inSlices(this.model.shares(tokens), signal);
      results.push({ ...this.model.answer(shares), words: this.model.knownWords(tokens) });
    }
    return results;
  }

  #read(text) {
    const { tokens, spans } = this.model.tokenizer.tokens(text);
    if (!tokens.length) throw new Error("the text has no words; give at least one");
    return { tokens, spans };
  }

  async explain(text, { label = null, signal } = {}) {
    const { tokens, spans } = this.#read(text);
    if (text.length > MOST_GROWTH_CHARACTERS)
      throw new Error(`the text has more than ${MOST_GROWTH_CHARACTERS} characters; shorten it`);
    const whole = await inSlices(this.model.shares(tokens), signal);
    const number = label === null ? whole.indexOf(Math.max(...whole)) : this.model.classes.indexOf(label);
    if (number < 0) throw new Error(`${label} is not one of the model's labels`);
    const contributions = await inSlices(contributionsOf(this.model, tokens, number), signal);
    const after = await inSlices(growthOf(this.model, tokens, number), signal);
    return {
      text,
      label: this.model.classes[number],
      probability: whole[number],
      method: METHOD,
      words: tokens.map((token, i) => ({
        token,
        begin: spans[i][0],
        end: spans[i][1],
        contribution: contributions[i],
        probability_after: after[i],
      })),
    };
  }

  // What the network reads of the text: ids, and the token at each; the padding is not shown.
  #shown(text) {
    const { tokens } = this.#read(text);
    const { tokenizer, network } = this.model;
    const places = tokenizer.placesRead(tokens, network.config.max_length);
    const ids = network.padded(tokenizer.encode(tokens, network.config.max_length));
    return { ids, shown: places.map((place) => (place < 0 ? START_MARK : tokens[place])) };
  }

  async trace(text, { signal } = {}) {
    const { ids, shown } = this.#shown(text);
    const { network } = this.model;
    const layers = await inSlices(traced(network, ids, shown.length), signal);
    return layers.map((found) => ({
      layer: found.layer,
      direction: found.direction,
      cell: network.config.cell,
      reset: network.config.cell === "gru" ? network.config.reset : null,
      tokens: shown,
      gates: found.gates,
      states: found.states,
      ...(found.cells ? { cells: found.cells } : {}),
    }));
  }

  async cell(text, { layer, direction, step, unit, signal }) {
    const { ids, shown } = this.#shown(text);
    const { network } = this.model;
    const position = ids.length - shown.length + step;
    const terms = await inSlices(termsAt(network, ids, { layer, direction, position, unit }), signal);
    return {
      layer,
      direction,
      step,
      unit,
      token: shown[step],
      cell: network.config.cell,
      reset: network.config.cell === "gru" ? network.config.reset : null,
      ...terms,
    };
  }

  // How far the probabilities of the samples in the file are from those that Python found.
  async check() {
    const { samples } = this.model.description;
    let largest = 0;
    for (const { text, probabilities } of samples) {
      const { tokens } = this.model.tokenizer.tokens(text);
      const shares = await inSlices(this.model.shares(tokens));
      shares.forEach((share, i) => {
        const gap = Math.abs(share - probabilities[i]);
        largest = gap <= largest ? largest : gap; // NaN counts as the largest
      });
    }
    return { texts: samples.length, largest };
  }
}
