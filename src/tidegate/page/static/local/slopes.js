// The slopes of what is made of the logits along the words' vectors: a Reading taken back, step by
// step. src/tidegate/reference.py has the equations; here of one text, and not of the weights.

import { WORK_BETWEEN_YIELDS, addProduct, attention, standardized } from "./network.js";
import { PADDING_ID } from "./tokenizer.js";

// [T] each position's whole vector, whatever share of it was read, times its slope. reading: has
// just given the logits of `ids`. dLogits [L]: the slopes along these.
export function* worthOfPositions(reading, ids, dLogits) {
  const { network, readers } = reading;
  const size = network.config.hidden_size;
  const length = ids.length;
  const worth = new Float64Array(length);
  // Padding that only stands before the words has no part in their slopes.
  const oneWay = network.directions.length === 1;
  const last = oneWay ? Math.max(0, ids.findIndex((id) => id !== PADDING_ID)) : 0;
  let dOutputs = poolBack(reading, headBack(reading, dLogits)); // [T][F] of one layer after another
  for (let layer = readers.length - 1; layer >= 0; --layer) {
    const dInputs = layer ? zeros(length, network.width) : null;
    for (const [number, reader] of readers[layer].entries()) {
      const { weights } = reader;
      const backward = network.directions[number] === "backward";
      const at = (t) => (backward ? length - 1 - t : t);
      const dState = (t) => dOutputs[at(t)].subarray(number * size, (number + 1) * size);
      const take = (t, dProjection) => {
        if (dInputs) addProduct(dInputs[at(t)], dProjection, weights.kernelRows, 0, network.width);
        else worth[at(t)] += worthOf(weights, network.projected(weights, ids[at(t)]), dProjection);
      };
      yield* readBack(network, reader, last, dState, take);
    }
    const name = `recurrent${layer + 1}_norm`;
    if (dInputs) dOutputs = normBack(network, name, reading.below[layer], dInputs);
  }
  return worth;
}

// x . (W d) as (x W) . d, of a word whose x W + b is known.
function worthOf({ bias }, projection, dProjection) {
  let sum = 0;
  for (let i = 0; i < bias.length; ++i) sum += (projection[i] - bias[i]) * dProjection[i];
  return sum;
}

function zeros(rows, columns) {
  return Array.from({ length: rows }, () => new Float64Array(columns));
}

// [P] along the pooled states.
function headBack({ network, pooled }, dLogits) {
  const dPooled = new Float64Array(pooled.length);
  addProduct(dPooled, dLogits, network.tensors["output.kernel"], 0, dPooled.length);
  return normBack(network, "output_norm", [pooled], [dPooled])[0];
}

// Along rows before they were normalised, of the slopes after that.
function normBack({ config, tensors }, name, rows, dRows) {
  if (!config.layer_norm) return dRows;
  const gain = tensors[`${name}.gain`];
  const size = gain.length;
  return rows.map((unscaled, t) => {
    const { row, scale } = standardized(unscaled);
    const dRow = dRows[t].map((value, i) => value * gain[i]);
    let mean = 0;
    let overlap = 0;
    for (let i = 0; i < size; ++i) {
      mean += dRow[i] / size;
      overlap += (dRow[i] * row[i]) / size;
    }
    return dRow.map((value, i) => (value - mean - row[i] * overlap) * scale);
  });
}

// [T][F] along the last layer's outputs.
function poolBack({ network, outputs }, dPooled) {
  const { width, poolings, tensors } = network;
  const length = outputs.length;
  const dOutputs = zeros(length, width);
  if (!length) return dOutputs;
  poolings.forEach((kind, number) => {
    const d = dPooled.subarray(number * width, (number + 1) * width);
    if (kind === "last") {
      // The other direction ends at the first word.
      const hidden = network.config.hidden_size;
      for (let i = 0; i < width; ++i) dOutputs[i < hidden ? length - 1 : 0][i] += d[i];
    } else if (kind === "max") {
      for (let i = 0; i < width; ++i) {
        let largest = 0;
        for (let t = 1; t < length; ++t) if (outputs[t][i] > outputs[largest][i]) largest = t;
        dOutputs[largest][i] += d[i];
      }
    } else if (kind === "mean") {
      for (const row of dOutputs) for (let i = 0; i < width; ++i) row[i] += d[i] / length;
    } else {
      const query = tensors["attention.query"];
      const shares = attention(outputs, query);
      const dShares = outputs.map((row) => row.reduce((sum, value, i) => sum + value * d[i], 0));
      const mean = shares.reduce((sum, share, t) => sum + share * dShares[t], 0);
      dOutputs.forEach((row, t) => {
        const dScore = shares[t] * (dShares[t] - mean);
        for (let i = 0; i < width; ++i) row[i] += shares[t] * d[i] + dScore * query[i];
      });
    }
  });
  return dOutputs;
}

// One layer in one direction, in its own reading order, back to step `last`. dState(t) [H]: along the state of step t from
// above. take(t, dProjection): is given the slopes along x W + b, which the next step overwrites.
function* readBack(network, reader, last, dState, take) {
  const size = network.config.hidden_size;
  const gruBack = network.resetsAfter ? gruAfterBack : gruBeforeBack;
  const stepBack = { gru: gruBack, lstm: lstmBack, rnn: rnnBack }[network.config.cell];
  const { weights, gates, states, cells } = reader;
  const nothing = new Float64Array(size);
  const d = {
    hidden: new Float64Array(size),
    cell: new Float64Array(size),
    projection: new Float64Array(network.columns),
    recurrent: new Float64Array(network.columns), // along h U, where that is not the same
  };
  let work = 0;
  for (let t = states.length - 1; t >= last; --t) {
    const above = dState(t);
    for (let i = 0; i < size; ++i) d.hidden[i] += above[i];
    const hidden = t ? states[t - 1] : nothing;
    const cell = t ? cells[t - 1] : nothing;
    stepBack(weights, gates[t], { hidden, cell, cellAfter: cells[t] }, d);
    take(t, d.projection);
    work += 2 * network.stepWork;
    if (work > WORK_BETWEEN_YIELDS) {
      work = 0;
      yield;
    }
  }
}

// Each of these takes one step back: d.hidden and d.cell, along the states after it, become those
// along the states before it, and d.projection is filled. The slopes of a sigmoid s and a tanh c are
// s (1 - s) and 1 - c c.

function gruAfterBack({ recurrentRows }, gates, { hidden }, d) {
  const size = hidden.length;
  for (let i = 0; i < size; ++i) {
    const [update, reset, candidate] = [gates[i], gates[size + i], gates[2 * size + i]];
    const dCandidate = d.hidden[i] * update * (1 - candidate * candidate);
    d.projection[i] = d.hidden[i] * (candidate - hidden[i]) * update * (1 - update);
    d.projection[size + i] = dCandidate * gates[3 * size + i] * reset * (1 - reset);
    d.projection[2 * size + i] = dCandidate;
    d.recurrent[2 * size + i] = dCandidate * reset;
    d.hidden[i] *= 1 - update;
  }
  d.recurrent.set(d.projection.subarray(0, 2 * size));
  addProduct(d.hidden, d.recurrent, recurrentRows, 0, size);
}

function gruBeforeBack({ recurrentRows }, gates, { hidden }, d) {
  const size = hidden.length;
  for (let i = 0; i < size; ++i) {
    const [update, candidate] = [gates[i], gates[2 * size + i]];
    d.projection[i] = d.hidden[i] * (candidate - hidden[i]) * update * (1 - update);
    d.projection[2 * size + i] = d.hidden[i] * update * (1 - candidate * candidate);
    d.hidden[i] *= 1 - update;
  }
  const dKept = new Float64Array(size); // along reset * hidden
  addProduct(dKept, d.projection.subarray(2 * size), recurrentRows, 0, size, 3 * size, 2 * size);
  for (let i = 0; i < size; ++i) {
    const reset = gates[size + i];
    d.projection[size + i] = dKept[i] * hidden[i] * reset * (1 - reset);
    d.hidden[i] += dKept[i] * reset;
  }
  addProduct(d.hidden, d.projection.subarray(0, 2 * size), recurrentRows, 0, size, 3 * size);
}

function lstmBack({ recurrentRows }, gates, { hidden, cell, cellAfter }, d) {
  const size = hidden.length;
  for (let i = 0; i < size; ++i) {
    const [input, forget] = [gates[i], gates[size + i]];
    const [candidate, output] = [gates[2 * size + i], gates[3 * size + i]];
    const squashed = Math.tanh(cellAfter[i]);
    const dCell = d.cell[i] + d.hidden[i] * output * (1 - squashed * squashed);
    d.projection[i] = dCell * candidate * input * (1 - input);
    d.projection[size + i] = dCell * cell[i] * forget * (1 - forget);
    d.projection[2 * size + i] = dCell * input * (1 - candidate * candidate);
    d.projection[3 * size + i] = d.hidden[i] * squashed * output * (1 - output);
    d.cell[i] = dCell * forget;
    d.hidden[i] = 0;
  }
  addProduct(d.hidden, d.projection, recurrentRows, 0, size);
}

function rnnBack({ recurrentRows }, gates, { hidden }, d) {
  const size = hidden.length;
  for (let i = 0; i < size; ++i) {
    d.projection[i] = d.hidden[i] * (1 - gates[i] * gates[i]);
    d.hidden[i] = 0;
  }
  addProduct(d.hidden, d.projection, recurrentRows, 0, size);
}
