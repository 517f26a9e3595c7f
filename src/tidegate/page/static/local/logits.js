// What the logits of a text say: probabilities, and the log-odds of one class.

// The logits of both models together, or of the one that stands alone.
export function mixed(logits, beside, [first, second]) {
  return logits.map((value, l) => value * first + (beside ? beside[l] * second : 0));
}

// The probabilities of all classes from logits [L].
export function sharesOf(logits, targets) {
  if (targets === "many")
    return Array.from(logits, (x) => {
      const small = Math.exp(-Math.abs(x));
      return (x >= 0 ? 1 : small) / (1 + small);
    });
  const scores = logits.length === 1 ? [0, logits[0]] : Array.from(logits);
  return softmax(scores);
}

export function softmax(scores) {
  const largest = scores.reduce((a, b) => Math.max(a, b));
  const shares = scores.map((score) => Math.exp(score - largest));
  const all = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / all);
}

// Of class `number` against all others together, in nats.
export function logOdds(logits, number, targets) {
  if (logits.length === 1) return number === 1 ? logits[0] : -logits[0];
  if (targets === "many") return logits[number];
  const others = Array.from(logits).filter((_, l) => l !== number);
  const largest = others.reduce((a, b) => Math.max(a, b));
  const sum = others.reduce((all, other) => all + Math.exp(other - largest), 0);
  return logits[number] - largest - Math.log(sum);
}

// [L] its slopes along the logits.
export function logOddsSlopes(logits, number, targets) {
  if (logits.length === 1) return Float64Array.of(number === 1 ? 1 : -1);
  const found = new Float64Array(logits.length);
  if (targets !== "many") {
    const others = Array.from(logits);
    others[number] = -Infinity;
    softmax(others).forEach((share, l) => (found[l] = -share));
  }
  found[number] = 1;
  return found;
}
