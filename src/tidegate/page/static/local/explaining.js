// Why a text was judged so: what src/tidegate/explain.py says by its default method, which is
// `staged` of src/tidegate/slopes.py.

import { logOdds, logOddsSlopes, mixed, sharesOf } from "./logits.js";
import { Reading } from "./network.js";
import { worthOfPositions } from "./slopes.js";

export const METHOD = "staged";

const STAGES = [1 / 32, 1 / 16, 1 / 8, 1 / 4]; // of the words, the strongest of which are left out
const STAGE_WORDS = 32; // fewer that are read have the first stage alone
// Points of Gauss's quadrature, and how close they bring the words' sum to the change along the way.
const INTEGRATED = { points: [4, 8, 32, 128], share: 0.01, nats: 0.01 };
const STAGED = { points: [1, ...INTEGRATED.points], share: 0.2, nats: 0.02 };
const MOST_GROWTH_WORK = 1e9; // multiplications: about a second

// Each token's contribution [T] to the log-odds of the class `number`: what it is worth, averaged
// over the text and what is left of it without its strongest words. model: a Model of local.js.
export function* contributionsOf(model, tokens, number) {
  const everything = tokens.map((_, place) => place);
  const text = yield* contextOf(model, tokens, everything);
  const change = (yield* oddsAt(model, text, number, 1)) - (yield* oddsAt(model, text, number, 0));
  const short = text.words.length < STAGE_WORDS;
  const way = short ? INTEGRATED : STAGED;
  const enough = Math.max(way.share * Math.abs(change), way.nats);
  let total;
  let points;
  for (points of way.points) {
    [total] = yield* worthOnTheWay(model, [text], number, points);
    const sum = total.reduce((a, b) => a + b, 0);
    if (Math.abs(sum - change) <= enough) break;
  }
  if (short) return total;
  const strongest = everything.toSorted((a, b) => Math.abs(total[b]) - Math.abs(total[a]));
  const weighty = total.reduce((count, worth) => count + (worth !== 0), 0);
  const counts = new Set(STAGES.map((share) => Math.floor(weighty * share)));
  counts.delete(0);
  const later = [];
  for (const count of counts) {
    const gone = new Set(strongest.slice(0, count));
    const left = everything.filter((place) => !gone.has(place));
    later.push(yield* contextOf(model, tokens, model.tokenizer.settled(tokens, left)));
  }
  const stages = new Float64Array(tokens.length).fill(1);
  for (const { places } of later) for (const place of places) ++stages[place];
  for (const worth of yield* worthOnTheWay(model, later, number, points))
    worth.forEach((value, place) => (total[place] += value));
  return total.map((sum, place) => sum / stages[place]);
}

// The tokens at `places`, as a text of their own. ids: what the network reads. words: which token
// [T] stands where in that, [[place, position]], without those that are not read of the whole text:
// to the network they are worth nothing. grams: see NgramModel.
function* contextOf({ network, tokenizer, ngrams }, tokens, places) {
  const most = network.config.max_length;
  const left = places.map((place) => tokens[place]);
  const ids = network.padded(tokenizer.encode(left, most));
  const standing = tokenizer.placesRead(left, most);
  const padding = ids.length - standing.length;
  const read = new Set(tokenizer.placesRead(tokens, most));
  const words = standing
    .map((i, at) => [i < 0 ? i : places[i], padding + at])
    .filter(([place]) => place >= 0 && read.has(place));
  const grams = ngrams && (yield* ngrams.grams(left));
  return { size: tokens.length, places, ids, words, grams };
}

// The logits of a context where all words' vectors and n-grams are multiplied by `reading.share`.
function* logitsOf({ ngrams, mix }, reading, { ids, grams }) {
  const logits = yield* reading.logits(ids);
  return mixed(logits, grams && ngrams.scores(grams, reading.share), mix);
}

function* oddsAt(model, context, number, share) {
  const logits = yield* logitsOf(model, new Reading(model.network, share), context);
  return logOdds(logits, number, model.network.config.targets);
}

// What each token is worth in each context, [C][T]: its vector times the mean slope of the log-odds
// on the way on which all vectors grow from 0 to their own, and its share of the n-grams.
function* worthOnTheWay(model, contexts, number, points) {
  const found = contexts.map(({ size }) => new Float64Array(size));
  for (const [share, weight] of quadrature(points)) {
    const reading = new Reading(model.network, share);
    for (const [c, context] of contexts.entries())
      yield* addWorth(found[c], weight, model, reading, context, number);
  }
  return found;
}

// worth [T] += weight times what each token is worth by the slopes at `reading.share`.
function* addWorth(worth, weight, model, reading, context, number) {
  const { network, ngrams, mix } = model;
  const logits = yield* logitsOf(model, reading, context);
  const slopes = logOddsSlopes(logits, number, network.config.targets);
  const ofNetwork = slopes.map((slope) => slope * mix[0]);
  const byPosition = yield* worthOfPositions(reading, context.ids, ofNetwork);
  for (const [place, position] of context.words) worth[place] += weight * byPosition[position];
  if (!context.grams) return;
  const ofNgrams = slopes.map((slope) => slope * mix[1]);
  const shares = ngrams.shares(context.grams, ofNgrams);
  context.places.forEach((place, i) => (worth[place] += weight * shares[i]));
}

// Gauss's places between 0 and 1 with their weights: the roots of Legendre's polynomial.
export function quadrature(points) {
  return Array.from({ length: points }, (_, i) => {
    let x = Math.cos((Math.PI * (i + 0.75)) / (points + 0.5));
    let slope;
    for (let round = 0; round < 8; ++round) {
      let before = 1;
      let value = x;
      for (let n = 2; n <= points; ++n)
        [before, value] = [value, ((2 * n - 1) * x * value - (n - 1) * before) / n];
      slope = (points * (x * value - before)) / (x * x - 1);
      x -= value / slope;
    }
    return [(x + 1) / 2, 1 / ((1 - x * x) * slope * slope)];
  });
}

function same(a, b) {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

// The probability [T] of the class `number` after each token, as if the text ended there. Where that
// is too much work it is computed after the first token and some others, evenly spread, and the last;
// after those between it is null.
export function* growthOf(model, tokens, number, mostWork = MOST_GROWTH_WORK) {
  const { network, tokenizer, ngrams, mix } = model;
  const count = tokens.length;
  const reading = new Reading(network);
  let read = null;
  let logits = null;
  const grown = ngrams && [...ngrams.grown(yield* ngrams.grams(tokens))];
  const after = new Array(count).fill(null);
  const begun = tokenizer.beginnings(tokens, network.config.max_length);
  const every = Math.max(1, Math.ceil(growthWork(model, tokens) / mostWork));
  for (let i = 0; i < count; ++i) {
    if (i % 64 === 63) yield;
    const here = tokenizer.ended(tokens, i + 1);
    const ids = network.padded(begun(here));
    // The same ids again, as where a text's start alone is read, cost nothing.
    if (!read || !same(read, ids)) {
      if (i % every && i + 1 < count) continue;
      logits = yield* reading.logits((read = ids));
    }
    const total = mixed(logits, grown?.[here] ?? null, mix);
    after[i] = sharesOf(total, network.config.targets)[number];
  }
  return after;
}

// Multiplications of reading all beginnings of a text, about.
function growthWork({ network, tokenizer }, tokens) {
  const { config, directions, layers, stepWork } = network;
  const read = tokenizer.placesRead(tokens, config.max_length).length;
  const step = stepWork * directions.length * layers.length;
  const startAlone = tokenizer.keep === "start";
  // In one direction each beginning is the one before it and a step, unless words or padding move.
  const still = config.masked && (startAlone || read < config.max_length);
  if (still && directions.length === 1) return read * step;
  const beginnings = startAlone ? read : tokens.length;
  return (beginnings * (config.masked ? read : config.max_length) * step) / 2;
}
