// What one model says of the text: its verdict, the words, the probability, the gates, the numbers.

import { Chart, afterWords } from "./chart.js";
import {
  counted,
  labelText,
  make,
  percent,
  probabilityOf,
  quoted,
  segments,
  signed,
} from "./dom.js";
import { Equations } from "./equations.js";
import { HeatMap } from "./heatmap.js";
import { ORDERS } from "./order.js";
import { Reading } from "./reading.js";

const MOST_LABELS = 6; // bars of probabilities; more are counted
const CELL_PAUSE = 80; // milliseconds before the numbers of another place are asked for
const METHODS = {
  staged: "by slopes, in the text and without its strongest words",
  integrated: "by integrated slopes",
  gradient: "by slopes",
  occlusion: "by leaving each out",
};
const NOTHING_KNOWN = "None of these words is in the model's vocabulary: its label means nothing.";
const CELLS = { gru: "GRU", lstm: "LSTM", rnn: "plain RNN" };

// Which row of the trace shows each word of the explanation; words that are not read have none. The
// trace begins with a mark of the start, if at all, and has the first or last words, or both.
export function rowsOf(words, tokens) {
  const from = tokens[0] === "<start>" ? 1 : 0;
  const rows = new Array(words.length).fill(null);
  const count = tokens.length - from;
  const matches = (word, row, length) => {
    for (let i = 0; i < length; ++i) if (words[word + i] !== tokens[row + i]) return false;
    return true;
  };
  const put = (word, row, length) => {
    for (let i = 0; i < length; ++i) rows[word + i] = row + i;
  };
  if (count > words.length) return rows;
  if (matches(words.length - count, from, count)) put(words.length - count, from, count);
  else if (matches(0, from, count)) put(0, from, count);
  else {
    let head = 0; // a part of the start and the rest of the end, or some words left out anywhere
    while (head < count && words[head] === tokens[from + head]) ++head;
    if (matches(words.length - (count - head), from + head, count - head)) {
      put(0, from, head);
      put(words.length - (count - head), from + head, count - head);
    } else {
      let row = from;
      for (let i = 0; i < words.length && row < tokens.length; ++i)
        if (words[i] === tokens[row]) rows[i] = row++;
    }
  }
  return rows;
}

export class Panel {
  // onchoose(begin): the word that begins at this character was chosen.
  constructor(backend, { onchoose }) {
    this.backend = backend;
    this.onchoose = onchoose;
    this.kind = "states";
    this.order = "likeness";
    this.layer = 0;
    this.title = make("h2");
    this.verdict = make("div", { className: "verdict" });
    this.note = make("p", { className: "note", role: "status" });
    this.problem = make("p", { className: "problem", role: "alert", hidden: true });
    const hooks = {
      onchoose: (index) => this.#choose(index),
      onpoint: (index) => this.#point(index),
    };
    this.reading = new Reading(hooks);
    this.detail = make("output", { className: "readout detail", "aria-live": "polite" });
    this.chart = new Chart(hooks);
    this.heat = new HeatMap({ onmove: (step, unit) => this.#move(step, unit) });
    this.controls = make("div", { className: "controls" });
    this.equations = new Equations();
    this.results = make(
      "div",
      { className: "results" },
      make("section", {}, make("h3", {}, "What each word says"), this.reading.element, this.detail),
      make("section", {}, (this.chartTitle = make("h3")), this.chart.element),
      make(
        "section",
        {},
        make("h3", {}, "What the units remember"),
        this.controls,
        this.heat.element,
      ),
      make("section", {}, make("h3", {}, "One unit, step by step"), this.equations.element),
    );
    this.results.hidden = true;
    this.element = make(
      "article",
      { className: "panel" },
      make("header", {}, this.title, this.verdict, this.note, this.problem),
      this.results,
    );
  }

  // model: of the backend's models().
  async update(text, { model, label, signal }) {
    this.model = model;
    this.text = text;
    this.title.replaceChildren(
      quoted(model.name),
      make("small", {}, `${CELLS[model.cell] ?? model.cell}`),
    );
    this.element.classList.add("busy");
    const reports = await Promise.allSettled([
      this.#predict(label, signal),
      this.#explain(label, signal),
      this.#trace(signal),
    ]);
    if (signal.aborted) return;
    this.element.classList.remove("busy");
    const failed = reports.find(({ status }) => status === "rejected");
    this.problem.hidden = !failed;
    this.problem.textContent = failed ? failed.reason.message : "";
    const complete = reports.every(({ status }) => status === "fulfilled");
    this.results.hidden = !complete;
    if (complete) this.#join();
    else this.note.textContent = "";
  }

  // Shows that there is no text.
  clear() {
    this.element.classList.remove("busy");
    this.results.hidden = true;
    this.problem.hidden = true;
    this.verdict.replaceChildren();
    this.note.textContent = "";
  }

  async #predict(label, signal) {
    const [result] = await this.backend.predict([this.text], this.model.name, { signal });
    if (signal.aborted) return;
    const several = this.model.targets === "many";
    const ranked = this.model.labels
      .map((name) => [name, probabilityOf(result, name)])
      .sort((a, b) => b[1] - a[1]);
    const shown = label ?? result.label ?? ranked[0][0];
    const said = several ? result.labels : [result.label];
    const head = make(
      "strong",
      {},
      said.length ? quoted(said.map(labelText).join(", ")) : "none of its labels",
    );
    const bars = ranked.slice(0, MOST_LABELS).map(([name, share]) => {
      const fill = make("span", { className: "fill" });
      fill.style.width = `${100 * share}%`;
      return make(
        "li",
        { className: name === shown ? "shown" : null },
        make("span", { className: "label" }, quoted(labelText(name))),
        make("span", { className: "track", "aria-hidden": "true" }, fill),
        make("span", { className: "share" }, percent(share)),
      );
    });
    const rest = ranked.length - bars.length;
    this.verdict.replaceChildren(
      make(
        "p",
        { className: "answer" },
        head,
        make("span", { className: "share" }, percent(result.probability)),
      ),
      make("ul", { className: "bars" }, ...bars),
      ...(result.words === 0 ? [make("p", { className: "note" }, NOTHING_KNOWN)] : []),
      ...(rest > 0 ? [make("p", { className: "note" }, `and ${counted(rest, "other label")}`)] : []),
    );
  }

  async #explain(label, signal) {
    const explanation = await this.backend.explain(this.text, {
      model: this.model.name,
      label,
      signal,
    });
    if (!signal.aborted) this.explanation = explanation;
  }

  async #trace(signal) {
    const layers = await this.backend.trace(this.text, { model: this.model.name, signal });
    if (!signal.aborted) this.layers = layers;
  }

  // Shows what belongs together: explanation and trace of one text.
  #join() {
    const { words, label, method } = this.explanation;
    const name = labelText(label);
    this.rows = rowsOf(
      words.map((word) => word.token),
      this.layers[0].tokens,
    );
    const read = this.rows.filter((row) => row !== null).length;
    this.note.textContent =
      (read < words.length
        ? `The network reads ${read.toLocaleString("en")} of ${counted(words.length, "word")}. `
        : `${counted(words.length, "word")}. `) +
      `Words weighed ${METHODS[method] ?? `by ${method}`}.`;
    this.chartTitle.replaceChildren("Probability of ", quoted(name), ` ${afterWords(words)}`);
    this.reading.show(this.explanation, name);
    this.chart.show(this.explanation, name);
    if (this.layer >= this.layers.length) this.layer = 0;
    this.#showControls();
    this.#showHeat();
    let strongest = 0;
    words.forEach((word, i) => {
      if (
        this.rows[i] !== null &&
        (this.rows[strongest] === null ||
          Math.abs(word.contribution) > Math.abs(words[strongest].contribution))
      )
        strongest = i;
    });
    this.unit = this.#livelyUnit(this.rows[strongest] ?? 0);
    this.#select(strongest);
  }

  get trace() {
    return this.layers[this.layer];
  }

  // The unit whose state a step changes most.
  #livelyUnit(step) {
    const { states, direction } = this.trace;
    const before = states[direction === "backward" ? step + 1 : step - 1];
    let best = 0;
    const change = (unit) => Math.abs(states[step][unit] - (before ? before[unit] : 0));
    for (let unit = 1; unit < states[step].length; ++unit)
      if (change(unit) > change(best)) best = unit;
    return best;
  }

  #showControls() {
    const kinds = [["states", "state"]];
    if (this.trace.cells) kinds.push(["cells", "cell state"]);
    for (const name of Object.keys(this.trace.gates)) kinds.push([name, name]);
    if (!kinds.some(([kind]) => kind === this.kind)) this.kind = "states";
    const again = () => {
      this.#showHeat();
      this.#place();
    };
    const layers = this.layers.map((trace, i) => [
      String(i),
      `${this.layers.length > 2 || trace.layer ? `layer ${trace.layer + 1}, ` : ""}${trace.direction === "backward" ? "from the end" : "from the start"}`,
    ]);
    this.controls.replaceChildren(
      segments("Show", kinds, this.kind, (kind) => {
        this.kind = kind;
        again();
      }),
      ...(layers.length > 1
        ? [
            segments("Read", layers, String(this.layer), (layer) => {
              this.layer = Number(layer);
              this.unit = this.#livelyUnit(this.step);
              again();
              this.#askTerms();
            }),
          ]
        : []),
      segments("Units", ORDERS, this.order, (order) => {
        this.order = order;
        again();
      }),
    );
  }

  #showHeat() {
    this.heat.show(this.trace, this.kind, this.order);
  }

  #place() {
    this.heat.placeAt(this.step, this.unit);
  }

  // A word was chosen in the text or the chart: by pointer or keys.
  #choose(index) {
    this.#select(index);
    this.onchoose(this.explanation.words[index].begin);
  }

  // Chooses the word that begins at a character of the text, if there is one.
  chooseAt(begin) {
    if (this.results.hidden || !this.explanation) return;
    const index = this.explanation.words.findIndex((word) => word.end > begin);
    if (index >= 0 && index !== this.chosen) this.#select(index);
  }

  #select(index) {
    this.chosen = index;
    this.reading.choose(index);
    this.#point(null);
    const row = this.rows[index];
    if (row === null) {
      this.equations.clear("The network does not read this word: the text is longer than it reads.");
      return;
    }
    this.step = row;
    this.#place();
    this.#askTerms();
  }

  // The cross-hair of the heat map moved.
  #move(step, unit) {
    this.step = step;
    this.unit = unit;
    const index = this.rows.indexOf(step);
    if (index >= 0) {
      this.chosen = index;
      this.reading.choose(index);
      this.#point(null);
      this.onchoose(this.explanation.words[index].begin);
    }
    this.#askTerms();
  }

  // Shows a word in the text and the chart for as long as the pointer is there; null: the chosen one.
  #point(index) {
    if (!this.explanation) return;
    const shown = index ?? this.chosen;
    this.reading.point(shown);
    this.chart.point(shown);
    const word = this.explanation.words[shown];
    if (!word) return;
    const name = labelText(this.explanation.label);
    this.detail.replaceChildren(
      quoted(word.token),
      " ",
      make("b", {}, signed(word.contribution)),
      word.contribution >= 0 ? " for " : " against ",
      quoted(name),
      ...(word.probability_after === null
        ? []
        : [" \u00b7 ", make("b", {}, percent(word.probability_after)), " after it"]),
    );
  }

  #askTerms() {
    clearTimeout(this.waiting);
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    const { layer, direction } = this.trace;
    const place = { layer, direction, step: this.step, unit: this.unit };
    this.waiting = setTimeout(async () => {
      try {
        const terms = await this.backend.cell(this.text, {
          model: this.model.name,
          ...place,
          signal: asking.signal,
        });
        if (!asking.signal.aborted) this.equations.show(terms);
      } catch (error) {
        if (!asking.signal.aborted) this.equations.clear(error.message);
      }
    }, CELL_PAUSE);
  }
}
