// The network's arithmetic: src/tidegate/reference.py for one text, in float64 over stored weights.
//
// A Reading remembers the last sequence it was given: what stands before the first difference is
// not computed again. So the beginnings of a text in one direction cost no more than the text. What
// is long is a generator, which yields now and then.

import { softmax } from "./logits.js";
import { PADDING_ID, START_ID } from "./tokenizer.js";

const GATES = {
  gru: ["update", "reset", "candidate"], // update = share of the new
  lstm: ["input", "forget", "candidate", "output"],
  rnn: ["state"],
};
const NORM_EPSILON = 1e-5;
export const WORK_BETWEEN_YIELDS = 1 << 21; // multiplications: a few milliseconds
const MOST_PROJECTIONS = 1 << 22; // numbers that are kept of words' input products

const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : 1 - 1 / (1 + Math.exp(x)));

// [columns * rows] of a matrix [rows * columns]: a product then reads memory in its order, for eight
// results at once, which is twice as fast as by rows.
function transposed(matrix, rows, columns) {
  const turned = new Float32Array(matrix.length);
  for (let r = 0; r < rows; ++r)
    for (let c = 0; c < columns; ++c) turned[c * rows + r] = matrix[r * columns + c];
  return turned;
}

// out[i] += sum over k of vector[k] * matrix[k, i] for i from `first` to `end`, of its transpose,
// whose rows are `stride` numbers apart; `offset` is where the vector's part of a row begins.
export function addProduct(out, vector, turned, first, end, stride = vector.length, offset = 0) {
  const size = vector.length;
  let i = first;
  for (; i + 8 <= end; i += 8) {
    let a = 0;
    let b = 0;
    let c = 0;
    let d = 0;
    let e = 0;
    let f = 0;
    let g = 0;
    let h = 0;
    let at = i * stride + offset;
    for (let k = 0; k < size; ++k, ++at) {
      const x = vector[k];
      a += x * turned[at];
      b += x * turned[at + stride];
      c += x * turned[at + 2 * stride];
      d += x * turned[at + 3 * stride];
      e += x * turned[at + 4 * stride];
      f += x * turned[at + 5 * stride];
      g += x * turned[at + 6 * stride];
      h += x * turned[at + 7 * stride];
    }
    out[i] += a;
    out[i + 1] += b;
    out[i + 2] += c;
    out[i + 3] += d;
    out[i + 4] += e;
    out[i + 5] += f;
    out[i + 6] += g;
    out[i + 7] += h;
  }
  for (; i < end; ++i) {
    let sum = 0;
    for (let k = 0; k < size; ++k) sum += vector[k] * turned[i * stride + offset + k];
    out[i] += sum;
  }
}

// A row with mean 0 and variance 1, and what it was multiplied by for that.
export function standardized(row) {
  const size = row.length;
  let mean = 0;
  for (const value of row) mean += value / size;
  let variance = 0;
  for (const value of row) variance += ((value - mean) * (value - mean)) / size;
  const scale = 1 / Math.sqrt(variance + NORM_EPSILON);
  return { row: row.map((value) => (value - mean) * scale), scale };
}

function normalized(row, gain, bias) {
  return standardized(row).row.map((value, i) => value * gain[i] + bias[i]);
}

export class Network {
  // config: ModelConfig's fields. tensors: Float32Array by name.
  constructor(config, tensors) {
    this.config = config;
    this.tensors = tensors;
    this.gateNames = GATES[config.cell];
    const hidden = config.hidden_size;
    this.resetsAfter = config.cell === "gru" && config.reset === "after";
    this.directions = config.bidirectional ? ["forward", "backward"] : ["forward"];
    this.layers = Array.from({ length: config.layers }, (_, layer) => {
      const name = layer ? `recurrent${layer + 1}` : "recurrent";
      return this.directions.map((direction) => {
        const own = direction === "backward" ? `${name}_reverse` : name;
        const columns = tensors[`${own}.bias`].length;
        const kernelRows = tensors[`${own}.kernel`];
        const recurrentRows = tensors[`${own}.recurrent_kernel`];
        return {
          kernelRows, // for the way back
          recurrentRows,
          kernel: transposed(kernelRows, kernelRows.length / columns, columns),
          recurrent: transposed(recurrentRows, hidden, columns),
          bias: tensors[`${own}.bias`],
          recurrentBias: tensors[`${own}.recurrent_bias`] ?? null,
          projections: new Map(),
        };
      });
    });
    this.width = hidden * this.directions.length;
    this.poolings = config.pooling.split("+");
    const logits = tensors["output.bias"].length;
    const pooled = this.width * this.poolings.length;
    this.output = transposed(tensors["output.kernel"], pooled, logits);
    this.columns = hidden * this.gateNames.length;
    // What a step leaves of its gates: their values, and of a GRU with the reset gate after the
    // product that gate's other factor, h U + b of the candidate.
    this.gateSize = this.columns + (this.resetsAfter ? hidden : 0);
    // Multiplications of one step of one direction.
    this.stepWork = hidden * this.columns;
  }

  // What is read of a text's ids: with the padding in front, if the network reads that.
  padded(ids) {
    if (this.config.masked) return ids;
    return [...new Array(this.config.max_length - ids.length).fill(PADDING_ID), ...ids];
  }

  inputRow(id) {
    const size = this.config.embedding_size;
    return this.tensors["embedding.weight"].subarray(id * size, (id + 1) * size);
  }

  // x W + b of a word, kept for the next time.
  projected(weights, id) {
    let found = weights.projections.get(id);
    if (!found) {
      if (weights.projections.size * this.columns > MOST_PROJECTIONS) weights.projections.clear();
      found = this.project(weights, this.inputRow(id));
      weights.projections.set(id, found);
    }
    return found;
  }

  project(weights, row) {
    const out = Float64Array.from(weights.bias);
    addProduct(out, row, weights.kernel, 0, this.columns);
    return out;
  }

  // One step: fills hidden [H], cell [H] (of an LSTM) and gates [gateSize] in place.
  step(weights, projection, hidden, cell, gates) {
    const size = this.config.hidden_size;
    const columns = this.columns;
    const total = this.scratch(weights);
    if (this.config.cell === "gru") {
      if (weights.recurrentBias) total.set(weights.recurrentBias);
      else total.fill(0);
      addProduct(total, hidden, weights.recurrent, 0, this.resetsAfter ? columns : 2 * size);
      for (let i = 0; i < 2 * size; ++i) gates[i] = sigmoid(projection[i] + total[i]);
      if (this.resetsAfter) {
        for (let i = 0; i < size; ++i) {
          const recurrent = total[2 * size + i];
          gates[3 * size + i] = recurrent;
          gates[2 * size + i] = Math.tanh(projection[2 * size + i] + gates[size + i] * recurrent);
        }
      } else {
        const kept = hidden.map((value, i) => gates[size + i] * value);
        addProduct(total, kept, weights.recurrent, 2 * size, columns);
        for (let i = 2 * size; i < columns; ++i) gates[i] = Math.tanh(projection[i] + total[i]);
      }
      for (let i = 0; i < size; ++i) hidden[i] += gates[i] * (gates[2 * size + i] - hidden[i]);
      return;
    }
    total.set(projection);
    addProduct(total, hidden, weights.recurrent, 0, columns);
    if (this.config.cell === "rnn") {
      for (let i = 0; i < size; ++i) gates[i] = hidden[i] = Math.tanh(total[i]);
      return;
    }
    for (let i = 0; i < columns; ++i) {
      const candidate = i >= 2 * size && i < 3 * size;
      gates[i] = candidate ? Math.tanh(total[i]) : sigmoid(total[i]);
    }
    for (let i = 0; i < size; ++i) {
      cell[i] = gates[size + i] * cell[i] + gates[i] * gates[2 * size + i];
      hidden[i] = gates[3 * size + i] * Math.tanh(cell[i]);
    }
  }

  scratch(weights) {
    return (weights.total ??= new Float64Array(this.columns));
  }

  // The logits [L] of pooled states.
  head(pooled) {
    if (this.config.layer_norm)
      pooled = normalized(
        pooled,
        this.tensors["output_norm.gain"],
        this.tensors["output_norm.bias"],
      );
    const out = Float64Array.from(this.tensors["output.bias"]);
    addProduct(out, pooled, this.output, 0, out.length);
    return out;
  }
}

// One layer in one direction over one sequence after another. Rows are in its own reading order.
class Reader {
  constructor(network, weights) {
    this.network = network;
    this.weights = weights;
    this.keys = [];
    this.steps = 0; // how many of `keys` have been read
    this.states = [];
    this.cells = [];
    this.gates = []; // see Network.gateSize
  }

  // keys: the ids at each step, or null where nothing says that two steps are alike. project(t):
  // what stands at step t, x W + b.
  *read(length, keys, project) {
    const size = this.network.config.hidden_size;
    let t = 0;
    if (keys) while (t < this.steps && t < length && this.keys[t] === keys[t]) ++t;
    this.keys = keys ?? [];
    this.steps = t;
    const hidden = t ? this.states[t - 1].slice() : new Float64Array(size);
    const cell = t && this.cells.length ? this.cells[t - 1].slice() : new Float64Array(size);
    let work = 0;
    for (; t < length; ++t) {
      this.gates[t] = new Float64Array(this.network.gateSize);
      this.network.step(this.weights, project(t), hidden, cell, this.gates[t]);
      this.states[t] = hidden.slice();
      if (this.network.config.cell === "lstm") this.cells[t] = cell.slice();
      if (keys) this.steps = t + 1;
      work += this.network.stepWork;
      if (work > WORK_BETWEEN_YIELDS) {
        work = 0;
        yield;
      }
    }
    this.states.length = this.gates.length = length;
  }
}

export class Reading {
  // share: what the vectors of words are multiplied by; those of the start and of padding are not.
  constructor(network, share = 1) {
    this.network = network;
    this.share = share;
    this.readers = network.layers.map((layer) =>
      layer.map((weights) => new Reader(network, weights)),
    );
    // What each layer reads, rows [T][I] in the text's order, before it is normalised and after. The
    // first layer reads words.
    this.below = network.layers.map(() => null);
    this.inputs = network.layers.map(() => null);
    this.outputs = []; // of the last layer, [T][F]
    this.pooled = null;
  }

  // Reads all layers.
  *read(ids) {
    const { network } = this;
    const length = ids.length;
    for (const [layer, readers] of this.readers.entries()) {
      if (layer) {
        this.below[layer] = this.outputs;
        this.inputs[layer] = this.#normalized(layer, this.outputs);
      }
      const inputs = this.inputs[layer];
      for (const [number, reader] of readers.entries()) {
        const backward = network.directions[number] === "backward";
        const at = (t) => (backward ? length - 1 - t : t);
        const keys = this.#keys(layer, ids, backward);
        const project = inputs
          ? (t) => network.project(reader.weights, inputs[at(t)])
          : (t) => this.#projected(reader.weights, ids[at(t)]);
        yield* reader.read(length, keys, project);
      }
      this.outputs = Array.from({ length }, (_, t) => this.#row(readers, t, length));
    }
  }

  // x W + b of a word.
  #projected(weights, id) {
    const found = this.network.projected(weights, id);
    if (this.share === 1 || id === PADDING_ID || id === START_ID) return found;
    return found.map((value, i) => this.share * (value - weights.bias[i]) + weights.bias[i]);
  }

  #normalized(layer, rows) {
    const { config, tensors } = this.network;
    if (!config.layer_norm) return rows;
    const norm = `recurrent${layer + 1}_norm`;
    return rows.map((row) => normalized(row, tensors[`${norm}.gain`], tensors[`${norm}.bias`]));
  }

  // Steps of upper layers are alike where all before them is, which one direction alone can tell.
  #keys(layer, ids, backward) {
    if (layer === 0) return backward ? ids.toReversed() : ids;
    return this.network.directions.length === 1 ? ids : null;
  }

  #row(readers, t, length) {
    if (readers.length === 1) return readers[0].states[t];
    const row = new Float64Array(this.network.width);
    row.set(readers[0].states[t]);
    row.set(readers[1].states[length - 1 - t], this.network.config.hidden_size);
    return row;
  }

  // The logits [L] of a text's ids, which `Network.padded` has seen.
  *logits(ids) {
    const { network } = this;
    yield* this.read(ids);
    this.pooled = new Float64Array(network.width * network.poolings.length);
    if (ids.length)
      network.poolings.forEach((kind, i) =>
        this.#pool(kind, this.pooled.subarray(i * network.width, (i + 1) * network.width)),
      );
    return network.head(this.pooled);
  }

  #pool(kind, part) {
    const { outputs } = this;
    const last = outputs.at(-1);
    const hidden = this.network.config.hidden_size;
    if (kind === "last") {
      part.set(last);
      // The other direction ends at the first word.
      if (part.length > hidden) part.set(outputs[0].subarray(hidden), hidden);
    } else if (kind === "max") {
      part.set(last);
      for (const row of outputs)
        for (let i = 0; i < part.length; ++i) if (row[i] > part[i]) part[i] = row[i];
    } else if (kind === "mean") {
      for (const row of outputs) for (let i = 0; i < part.length; ++i) part[i] += row[i];
      for (let i = 0; i < part.length; ++i) part[i] /= outputs.length;
    } else {
      const shares = attention(outputs, this.network.tensors["attention.query"]);
      outputs.forEach((row, t) => {
        for (let i = 0; i < part.length; ++i) part[i] += shares[t] * row[i];
      });
    }
  }
}

// The share of each row [T][F]: the softmax of its product with the query [F].
export function attention(rows, query) {
  return softmax(rows.map((row) => row.reduce((sum, value, i) => sum + value * query[i], 0)));
}

// What every layer and direction did of the last `shown` positions: [{layer, direction, gates: {name:
// [T][H]}, states, cells}] in the text's order.
export function* traced(network, ids, shown) {
  const reading = new Reading(network);
  const hidden = network.config.hidden_size;
  yield* reading.read(ids);
  const first = ids.length - shown;
  const found = [];
  for (const [layer, readers] of reading.readers.entries())
    for (const [number, reader] of readers.entries()) {
      const direction = network.directions[number];
      const inOrder = (rows) =>
        (direction === "backward" ? rows.toReversed() : rows).slice(first);
      const all = inOrder(reader.gates);
      const gates = {};
      if (network.config.cell !== "rnn")
        network.gateNames.forEach((name, g) => {
          gates[name] = all.map((row) => row.subarray(g * hidden, (g + 1) * hidden));
        });
      found.push({
        layer,
        direction,
        gates,
        states: inOrder(reader.states),
        cells: network.config.cell === "lstm" ? inOrder(reader.cells) : null,
      });
    }
  return found;
}

// The terms of one unit's equations at one position of `ids`.
export function* termsAt(network, ids, { layer, direction, position, unit }) {
  const reading = new Reading(network);
  const hidden = network.config.hidden_size;
  yield* reading.read(ids);
  const reader = reading.readers[layer][network.directions.indexOf(direction)];
  const { weights } = reader;
  const t = direction === "backward" ? ids.length - 1 - position : position;
  const before = t ? reader.states[t - 1] : new Float64Array(hidden);
  const values = reader.gates[t];
  const row = reading.inputs[layer] ? reading.inputs[layer][position] : network.inputRow(ids[position]);
  const column = (vector, turned, at) => {
    let sum = 0;
    for (let k = 0; k < vector.length; ++k) sum += vector[k] * turned[at * vector.length + k];
    return sum;
  };
  const gates = network.gateNames.map((name, g) => {
    const at = g * hidden + unit;
    const kept =
      network.config.cell === "gru" && !network.resetsAfter && name === "candidate"
        ? before.map((value, i) => values[hidden + i] * value)
        : before;
    return {
      name,
      input: column(row, weights.kernel, at),
      recurrent: column(kept, weights.recurrent, at),
      bias: weights.bias[at],
      recurrent_bias: weights.recurrentBias ? weights.recurrentBias[at] : null,
      value: values[at],
    };
  });
  const terms = { previous: before[unit], gates, state: reader.states[t][unit] };
  if (network.config.cell === "lstm") {
    terms.cell_before = t ? reader.cells[t - 1][unit] : 0;
    terms.cell_after = reader.cells[t][unit];
  }
  return terms;
}
