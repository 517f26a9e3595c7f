// The label's probability, growing word by word.

import { counted, draw, percent } from "./dom.js";

const HEIGHT = 150;
const MARGIN = { top: 14, right: 52, bottom: 10, left: 40 };
const MOST_POINTS = 1_000;

// After which words of an explanation the probability is known: of long texts, not after all.
export function afterWords(words) {
  const known = words.filter((word) => word.probability_after !== null).length;
  return known < words.length
    ? `after ${known.toLocaleString("en")} of ${counted(words.length, "word")}`
    : "after each word";
}

export class Chart {
  constructor({ onchoose, onpoint }) {
    this.element = draw("svg", { className: "chart", role: "img", height: HEIGHT });
    this.explanation = null;
    this.mark = null;
    const index = (event) => this.#indexAt(event.clientX);
    this.element.addEventListener("pointermove", (event) => onpoint(index(event)));
    this.element.addEventListener("pointerleave", () => onpoint(null));
    this.element.addEventListener("click", (event) => {
      const found = index(event);
      if (found !== null) onchoose(found);
    });
    new ResizeObserver(() => this.#paint()).observe(this.element);
  }

  show(explanation, label) {
    this.explanation = explanation;
    this.label = label;
    this.#paint();
  }

  // Draws a line at this word.
  point(index) {
    this.pointed = index;
    this.#paintMark();
  }

  #indexAt(clientX) {
    if (!this.explanation || !this.width) return null;
    const x = clientX - this.element.getBoundingClientRect().left;
    const inner = this.width - MARGIN.left - MARGIN.right;
    const count = this.explanation.words.length;
    const index = Math.round(((x - MARGIN.left) / inner) * (count - 1 || 1));
    return Math.min(Math.max(index, 0), count - 1);
  }

  #x(index) {
    const count = this.explanation.words.length;
    const inner = this.width - MARGIN.left - MARGIN.right;
    return MARGIN.left + (count > 1 ? (index / (count - 1)) * inner : inner);
  }

  #y(share) {
    return MARGIN.top + (1 - share) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  }

  #paint() {
    const width = Math.round(this.element.getBoundingClientRect().width);
    if (!this.explanation || !width) return;
    this.width = width;
    const { words } = this.explanation;
    this.element.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const shares = words.map((word) => word.probability_after);
    const known = [...shares.keys()].filter((i) => shares[i] !== null);
    const every = Math.max(1, Math.ceil(known.length / MOST_POINTS));
    const points = known.filter((_, n) => n % every === 0 || n === known.length - 1);
    const line = points
      .map((i, n) => `${n ? "L" : "M"}${this.#x(i).toFixed(1)} ${this.#y(shares[i]).toFixed(1)}`)
      .join("");
    const base = this.#y(0).toFixed(1);
    const area = `${line}L${this.#x(points.at(-1)).toFixed(1)} ${base}L${this.#x(0).toFixed(1)} ${base}Z`;
    const last = shares.at(-1);
    const lowest = known.reduce((a, b) => (shares[b] < shares[a] ? b : a));
    const highest = known.reduce((a, b) => (shares[b] > shares[a] ? b : a));
    this.element.setAttribute(
      "aria-label",
      `Probability of ${this.label} ${afterWords(words)}: first ${percent(shares[0])}, lowest ` +
        `${percent(shares[lowest])} after word ${lowest + 1}, highest ${percent(shares[highest])} ` +
        `after word ${highest + 1}, at the end ${percent(last)}.`,
    );
    const grid = [0, 0.5, 1].flatMap((share) => [
      draw("line", {
        className: share === 0.5 ? "grid half" : "grid",
        x1: MARGIN.left,
        x2: width - MARGIN.right,
        y1: this.#y(share),
        y2: this.#y(share),
      }),
      draw(
        "text",
        { className: "tick", x: MARGIN.left - 8, y: this.#y(share) + 4, "text-anchor": "end" },
        `${100 * share}`,
      ),
    ]);
    this.mark = draw("g", { className: "mark" });
    this.element.replaceChildren(
      ...grid,
      draw("path", { className: "area", d: area }),
      draw("path", { className: "line", d: line }),
      draw("circle", {
        className: "end",
        cx: this.#x(shares.length - 1),
        cy: this.#y(last),
        r: 3.5,
      }),
      draw(
        "text",
        { className: "final", x: width - MARGIN.right + 9, y: this.#y(last) + 4 },
        percent(last),
      ),
      this.mark,
    );
    this.#paintMark();
  }

  #paintMark() {
    if (!this.mark || !this.explanation) return;
    const word = this.explanation.words[this.pointed];
    if (!word) {
      this.mark.replaceChildren();
      return;
    }
    const x = this.#x(this.pointed);
    const share = word.probability_after;
    this.mark.replaceChildren(
      draw("line", { x1: x, x2: x, y1: this.#y(1), y2: this.#y(0) }),
      ...(share === null ? [] : [draw("circle", { cx: x, cy: this.#y(share), r: 4 })]),
    );
  }
}
