// One step of one unit: the lecture's equations, and below each its numbers.

import { make, plain, quoted } from "./dom.js";

const MINUS = "\u2212";

// "z_t = σ(W_z x_t)": letters with an index after _ or in _{...} become variables.
function formula(text) {
  const pieces = [];
  let at = 0;
  for (const found of text.matchAll(/([A-Za-z]\u2032?)(?:_(?:\{([^}]*)\}|([A-Za-z])))/g)) {
    if (found.index > at) pieces.push(text.slice(at, found.index));
    pieces.push(make("var", {}, found[1], make("sub", {}, found[2] ?? found[3])));
    at = found.index + found[0].length;
  }
  pieces.push(text.slice(at));
  return make("span", { className: "formula" }, ...pieces);
}

// Numbers as a sum: "0.412 − 1.310 + 0.020".
function sum(...values) {
  return values
    .map((value, i) => {
      if (i === 0) return plain(value);
      return `${value < 0 ? MINUS : "+"} ${Math.abs(value).toFixed(3)}`;
    })
    .join(" ");
}

function factor(value) {
  return value < 0 ? `(${plain(value)})` : plain(value);
}

function line(title, meaning, symbols, numbers, result) {
  return make(
    "div",
    { className: "equation" },
    make("div", { className: "title" }, title, make("small", {}, meaning)),
    make(
      "div",
      { className: "lines" },
      formula(symbols),
      make(
        "span",
        { className: "numbers" },
        `${numbers} `,
        make("span", { className: "result" }, "= ", make("b", {}, plain(result))),
      ),
    ),
  );
}

function biases(gate) {
  return gate.recurrent_bias === null ? [gate.bias] : [gate.bias, gate.recurrent_bias];
}

// σ or tanh of W x + U h + b, of any gate of this form.
function gateLine(gate, letter, index, title, meaning, squash = "σ") {
  const second = gate.recurrent_bias === null ? "" : ` + b\u2032_${index}`;
  return line(
    title,
    meaning,
    `${letter}_t = ${squash}(W_${index} x_t + U_${index} h_{t\u22121} + b_${index}${second})`,
    `${squash}(${sum(gate.input, gate.recurrent, ...biases(gate))})`,
    gate.value,
  );
}

function gruLines(terms, gates) {
  const { update, reset, candidate } = gates;
  const after = terms.reset === "after";
  const kept = 1 - update.value;
  return [
    gateLine(update, "z", "z", "Update gate", "how much new to add"),
    gateLine(reset, "r", "r", "Reset gate", "how much past to use"),
    after
      ? line(
          "Candidate",
          "what could be added",
          "c_t = tanh(W_c x_t + b_c + r_t * (U_c h_{t\u22121} + b\u2032_c))",
          `tanh(${sum(candidate.input, candidate.bias)} + ${plain(reset.value)} \u00d7 (${sum(candidate.recurrent, candidate.recurrent_bias)}))`,
          candidate.value,
        )
      : line(
          "Candidate",
          "what could be added",
          "c_t = tanh(W_c x_t + U_c (r_t * h_{t\u22121}) + b_c)",
          `tanh(${sum(candidate.input, candidate.recurrent, candidate.bias)})`,
          candidate.value,
        ),
    line(
      "Hidden state",
      "what is remembered",
      "h_t = (1 \u2212 z_t) * h_{t\u22121} + z_t * c_t",
      `${plain(kept)} \u00d7 ${factor(terms.previous)} + ${plain(update.value)} \u00d7 ${factor(candidate.value)}`,
      terms.state,
    ),
  ];
}

function lstmLines(terms, gates) {
  const { input, forget, candidate, output } = gates;
  return [
    gateLine(forget, "f", "f", "Forget gate", "how much past to keep"),
    gateLine(input, "i", "i", "Input gate", "how much new to add"),
    gateLine(candidate, "c", "c", "Candidate", "what could be added", "tanh"),
    line(
      "Cell state",
      "what is remembered",
      "s_t = f_t * s_{t\u22121} + i_t * c_t",
      `${plain(forget.value)} \u00d7 ${factor(terms.cell_before)} + ${plain(input.value)} \u00d7 ${factor(candidate.value)}`,
      terms.cell_after,
    ),
    gateLine(output, "o", "o", "Output gate", "how much to show"),
    line(
      "Hidden state",
      "what is shown",
      "h_t = o_t * tanh(s_t)",
      `${plain(output.value)} \u00d7 tanh(${plain(terms.cell_after)})`,
      terms.state,
    ),
  ];
}

export class Equations {
  constructor() {
    this.element = make("div", { className: "equations" });
  }

  show(terms) {
    const gates = Object.fromEntries(terms.gates.map((gate) => [gate.name, gate]));
    const lines =
      terms.cell === "gru"
        ? gruLines(terms, gates)
        : terms.cell === "lstm"
          ? lstmLines(terms, gates)
          : [gateLine(gates.state, "h", "h", "Hidden state", "what is remembered", "tanh")];
    const from = terms.direction === "backward" ? ", read from the end" : "";
    this.element.replaceChildren(
      make(
        "p",
        { className: "where" },
        "At ",
        quoted(terms.token),
        `, unit ${terms.unit}: the state goes from `,
        make("b", {}, plain(terms.previous)),
        " to ",
        make("b", {}, plain(terms.state)),
        from,
      ),
      ...lines,
    );
  }

  clear(message = "") {
    this.element.replaceChildren(make("p", { className: "where" }, message));
  }
}
