// Why a text was judged so: what src/tidegate/explain.py does by leaving out each word.

import { Reading } from "./network.js";

const MOST_WORK = 4e9; // multiplications: some seconds. Beyond it, words are left out in groups.

export const METHOD = "occlusion";

// Of class `number` against all others together, in nats.
function logOdds(logits, number, targets) {
  if (logits.length === 1) return number === 1 ? logits[0] : -logits[0];
  if (targets === "many") return logits[number];
  const others = Array.from(logits).filter((_, l) => l !== number);
  const largest = others.reduce((a, b) => Math.max(a, b));
  return (
    logits[number] -
    largest -
    Math.log(others.reduce((sum, other) => sum + Math.exp(other - largest), 0))
  );
}

// The probabilities of all classes from logits [L].
export function sharesOf(logits, targets) {
  if (targets === "many")
    return Array.from(logits, (x) => {
      const small = Math.exp(-Math.abs(x));
      return (x >= 0 ? 1 : small) / (1 + small);
    });
  const scores = logits.length === 1 ? [0, logits[0]] : Array.from(logits);
  const largest = scores.reduce((a, b) => Math.max(a, b));
  const shares = scores.map((score) => Math.exp(score - largest));
  const all = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / all);
}

function same(a, b) {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

// Of the class `number`: each token's contribution, and the probability after each token.
// model: a Model of local.js.
export function* explained(model, tokens, number) {
  const { network, tokenizer, ngrams, mix } = model;
  const most = network.config.max_length;
  const count = tokens.length;
  const ids = network.padded(tokenizer.encode(tokens, most));
  const { targets } = network.config;
  const read = new Set(tokenizer.placesRead(tokens, most));

  const scorer = () => {
    const reading = new Reading(network);
    let last = null; // the same ids again, as of texts whose end alone is read, cost nothing
    let logits = null;
    return function* (next) {
      const wanted = network.padded(next);
      if (!last || !same(last, wanted)) {
        last = null;
        logits = yield* reading.logits(wanted);
        last = wanted;
      }
      return logits;
    };
  };

  // Half of the steps, as a Reading saves the others.
  const perText = (ids.length * network.stepWork * network.directions.length * network.layers.length) / 2;
  const group = Math.max(1, Math.ceil((2 * Math.min(read.size, most) * perText) / MOST_WORK));

  const contributions = new Array(count).fill(0);
  const counts = ngrams?.count(tokens);
  const scores = ngrams?.scores(tokens);
  const score = scorer();
  const wholeLogits = yield* score(tokenizer.encode(tokens, most));
  const odds = logOdds(mixed(wholeLogits, scores ?? null, mix), number, targets);
  let left = 0; // words since the last yield
  // From the end: then the beginnings of one text and the next are the same longest.
  for (let end = count; end > 0; ) {
    let begin = end - 1;
    if (read.has(begin)) while (begin > 0 && end - begin < group && read.has(begin - 1)) --begin;
    const from = tokenizer.leftOut(tokens, begin)[0];
    const to = tokenizer.leftOut(tokens, end - 1)[1];
    let logits = wholeLogits;
    let unread = true;
    for (let i = from; i < to; ++i) if (read.has(i)) unread = false;
    if (!unread)
      logits = yield* score(
        tokenizer.encode([...tokens.slice(0, from), ...tokens.slice(to)], most),
      );
    const beside = ngrams?.without(tokens, from, to, counts, scores) ?? null;
    const fall = (odds - logOdds(mixed(logits, beside, mix), number, targets)) / (end - begin);
    contributions.fill(fall, begin, end);
    end = begin;
    if (++left % 64 === 0) yield;
  }

  const grown = ngrams ? [...ngrams.grown(tokens)] : null;
  const after = new Array(count).fill(0);
  const growing = scorer();
  const begun = tokenizer.beginnings(tokens, most);
  const sure = Math.max(1, Math.ceil((2 * count * perText) / MOST_WORK));
  for (let i = 0; i < count; ++i) {
    if (i % sure && i + 1 < count) {
      after[i] = after[i - 1]; // of very long texts only some beginnings are computed
      continue;
    }
    const here = tokenizer.ended(tokens, i + 1);
    const logits = yield* growing(begun(here));
    const beside = grown?.[here] ?? null;
    after[i] = sharesOf(mixed(logits, beside, mix), targets)[number];
    if (i % 64 === 63) yield;
  }
  return { contributions, after, method: group > 1 ? `leaving out ${group} at a time` : METHOD };
}

// The logits of both models together, or of the one that stands alone.
export function mixed(logits, beside, [first, second]) {
  return logits.map((value, l) => value * first + (beside ? beside[l] * second : 0));
}
