// The text itself, each word marked by what it says for the label: solid lines and one colour for
// it, dashed lines and another one against it, thicker the more it says.

import { counted, make, percent, signed } from "./dom.js";

const MOST_WORDS = 2_000; // shown one by one; of longer texts the first quarter and the last part
const LEAST_SCALE = 0.1; // nats: what is smaller than this everywhere is not made to look large

// A contribution in steps from -3 to 3.
export function strength(value, largest) {
  return Number.isFinite(value) ? Math.round((3 * value) / Math.max(largest, LEAST_SCALE)) : 0;
}

// Where each character (code point) of the text begins in UTF-16 units, or null where they are one.
function unitsOf(text) {
  if (!/[\ud800-\udfff]/.test(text)) return null;
  const units = [0];
  for (const character of text) units.push(units.at(-1) + character.length);
  return units;
}

function shownRanges(count) {
  if (count <= MOST_WORDS) return [[0, count]];
  const head = MOST_WORDS / 4;
  return [
    [0, head],
    [count - (MOST_WORDS - head), count],
  ];
}

export class Reading {
  // onchoose(index): a word was chosen. onpoint(index or null): one is pointed at.
  constructor({ onchoose, onpoint }) {
    this.onchoose = onchoose;
    this.element = make("p", {
      className: "reading",
      dir: "auto",
      role: "group",
      "aria-label": "The text, word by word. Arrow keys move from word to word.",
      onkeydown: (event) => this.#key(event),
      onclick: (event) => this.#click(event),
      onpointerover: (event) => onpoint(this.#index(event.target)),
      onpointerleave: () => onpoint(null),
    });
    this.words = new Map();
    this.chosen = null;
  }

  show(explanation, label) {
    const { text, words } = explanation;
    const units = unitsOf(text);
    const unit = (character) => (units ? units[character] : character);
    const largest = words.reduce((most, word) => Math.max(most, Math.abs(word.contribution)), 0);
    const pieces = [];
    this.words.clear();
    let at = 0;
    for (const [from, to] of shownRanges(words.length)) {
      if (from > 0) {
        const hidden = from - this.words.size;
        pieces.push(
          make("span", { className: "omitted" }, `${counted(hidden, "word")} not shown here`),
        );
        at = words[from].begin;
      }
      for (let i = from; i < to; ++i) {
        const { begin, end } = words[i];
        if (begin > at) pieces.push(text.slice(unit(at), unit(begin)));
        pieces.push(this.#word(words[i], i, text.slice(unit(begin), unit(end)), largest, label));
        at = Math.max(at, end);
      }
    }
    pieces.push(text.slice(unit(at)));
    this.element.replaceChildren(...pieces);
    this.chosen = null;
  }

  #word(word, index, shown, largest, label) {
    const step = strength(word.contribution, largest);
    const side = step > 0 ? `for for-${step}` : step < 0 ? `against against-${-step}` : "neutral";
    const stands =
      step > 0 ? `speaks for ${label}` : step < 0 ? `speaks against ${label}` : "says little";
    const share = word.probability_after;
    const after = share === null ? "" : `; ${percent(share)} after it`;
    const isBreak = word.token === "<br>" && /^[\n\r]$/.test(shown);
    const element = make(
      "span",
      {
        className: `word ${side}`,
        role: "button",
        tabindex: "-1",
        "aria-pressed": "false",
        "aria-label": `${isBreak ? "line break" : shown}: ${stands}, ${signed(word.contribution)}${after}`,
        "data-index": index,
      },
      isBreak ? "\u21b5" : shown,
    );
    if (isBreak) element.append("\n");
    this.words.set(index, element);
    return element;
  }

  // Marks a word; focuses it too where the keyboard moved there.
  choose(index, focus = false) {
    const before = this.words.get(this.chosen);
    before?.setAttribute("aria-pressed", "false");
    before?.setAttribute("tabindex", "-1");
    this.chosen = index;
    const element = this.words.get(index) ?? this.words.values().next().value;
    element?.setAttribute("tabindex", "0");
    if (!this.words.has(index)) return;
    element.setAttribute("aria-pressed", "true");
    if (focus) element.focus();
  }

  point(index) {
    this.pointed?.classList.remove("pointed");
    this.pointed = this.words.get(index);
    this.pointed?.classList.add("pointed");
  }

  #index(target) {
    const word = target.closest?.(".word");
    return word ? Number(word.dataset.index) : null;
  }

  #click(event) {
    const index = this.#index(event.target);
    if (index !== null) this.onchoose(index);
  }

  #key(event) {
    const at = this.#index(event.target);
    if (at === null || event.altKey || event.ctrlKey || event.metaKey) return;
    const indices = [...this.words.keys()];
    const place = indices.indexOf(at);
    const ahead = getComputedStyle(this.element).direction === "rtl" ? -1 : 1;
    const next = {
      ArrowRight: place + ahead,
      ArrowLeft: place - ahead,
      ArrowDown: place + 1,
      ArrowUp: place - 1,
      Home: 0,
      End: indices.length - 1,
      Enter: place,
      " ": place,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const index = indices[Math.min(Math.max(next, 0), indices.length - 1)];
    this.onchoose(index);
    this.choose(index, true);
  }
}
