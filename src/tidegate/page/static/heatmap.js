// Gates and states over words and units: a canvas with a cross-hair that pointer and keys move.

import { make, plain, quoted } from "./dom.js";
import { orderUnits } from "./order.js";

const MOST_WORDS = 2_000;
const LABELLED_WIDTH = 10; // of a column that has its word below it
const WIDEST = 22;
const NARROWEST = 3;
const TALLEST = 320;

// Colours from low to high; what goes below 0 has its middle at 0.
const SCALES = {
  light: {
    share: ["#f7f5ef", "#cfe3dd", "#8fc3ba", "#3f958c", "#0d5c5a", "#06302f"],
    signed: ["#7a3306", "#c96f2b", "#f0c9a2", "#f7f5ef", "#a9d0cb", "#2f8880", "#064a49"],
  },
  dark: {
    share: ["#16191b", "#1c3a3a", "#1f6160", "#2f928c", "#7cc9be", "#e4f6f1"],
    signed: ["#ffc48a", "#d07a35", "#6b3d1b", "#16191b", "#1f5654", "#3aa197", "#b5ebe2"],
  },
};

function table(stops) {
  const parts = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (parts.length - 1);
    const low = Math.min(Math.floor(place), parts.length - 2);
    return parts[low].map((value, c) => value + (place - low) * (parts[low + 1][c] - value));
  });
}

export class HeatMap {
  // onmove(step, unit): the cross-hair is at another place.
  constructor({ onmove }) {
    this.onmove = onmove;
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.hair = make("div", { className: "hair", "aria-hidden": "true" });
    this.column = make("div", { className: "column", "aria-hidden": "true" });
    this.row = make("div", { className: "row", "aria-hidden": "true" });
    this.labels = make("div", { className: "labels", "aria-hidden": "true" });
    this.plane = make("div", { className: "plane" }, this.canvas, this.column, this.row, this.hair);
    this.scroller = make(
      "div",
      {
        className: "scroller",
        tabindex: "0",
        role: "application",
        "aria-roledescription": "heat map",
        onkeydown: (event) => this.#key(event),
      },
      this.plane,
      this.labels,
    );
    this.readout = make("output", { className: "readout", "aria-live": "polite" });
    this.low = make("span");
    this.high = make("span");
    this.ramp = make("canvas", { className: "ramp", width: 120, height: 1, "aria-hidden": "true" });
    this.element = make(
      "div",
      { className: "heat" },
      this.scroller,
      make(
        "div",
        { className: "below" },
        this.readout,
        make("span", { className: "scale" }, this.low, this.ramp, this.high),
      ),
    );
    this.canvas.addEventListener("pointermove", (event) => this.#pointed(event, false));
    this.canvas.addEventListener("pointerleave", () => this.#say(this.step, this.place));
    this.canvas.addEventListener("click", (event) => this.#pointed(event, true));
    new ResizeObserver(() => this.#layout()).observe(this.element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
  }

  // trace: a layer's, of the contract. kind: "states", "cells" or a gate's name.
  show(trace, kind, order) {
    this.trace = trace;
    this.kind = kind;
    this.first = Math.max(0, trace.tokens.length - MOST_WORDS);
    this.values = { states: trace.states, cells: trace.cells }[kind] ?? trace.gates[kind];
    this.order = orderUnits(trace.states.slice(this.first), order);
    this.signed = !(kind in trace.gates) || kind === "candidate";
    let largest = 0;
    for (const row of this.values) for (const value of row) largest = Math.max(largest, Math.abs(value));
    this.limit = this.signed ? largest || 1 : 1;
    this.low.textContent = this.signed ? plain(-this.limit, 2) : "0";
    this.high.textContent = this.signed ? plain(this.limit, 2) : "1";
    this.scroller.setAttribute(
      "aria-label",
      `${kind} of ${this.order.length} units over ${trace.tokens.length} words. ` +
        "Left and right move between words, up and down between units.",
    );
    this.#paint();
    this.#layout();
  }

  // Puts the cross-hair at a step of the trace and a unit.
  placeAt(step, unit) {
    this.step = step;
    this.place = this.order.indexOf(unit);
    this.#cross();
    this.#say(this.step, this.place);
    this.#reveal();
  }

  get unit() {
    return this.order[this.place];
  }

  #colours() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    return table(SCALES[dark ? "dark" : "light"][this.signed ? "signed" : "share"]);
  }

  #paint() {
    if (!this.trace) return;
    const colours = this.#colours();
    const width = this.trace.tokens.length - this.first;
    const height = this.order.length;
    this.canvas.width = width;
    this.canvas.height = height;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(width, height);
    for (let x = 0; x < width; ++x) {
      const row = this.values[this.first + x];
      for (let y = 0; y < height; ++y) {
        const value = row[this.order[y]] / this.limit;
        const share = this.signed ? (value + 1) / 2 : value;
        const colour = colours[Math.min(255, Math.max(0, Math.round(255 * share)))];
        const at = 4 * (y * width + x);
        image.data[at] = colour[0];
        image.data[at + 1] = colour[1];
        image.data[at + 2] = colour[2];
        image.data[at + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    this.ramp.width = 256;
    const ramp = this.ramp.getContext("2d");
    const line = ramp.createImageData(256, 1);
    colours.forEach((colour, i) => line.data.set([...colour, 255], 4 * i));
    ramp.putImageData(line, 0, 0);
  }

  #layout() {
    if (!this.trace || !this.element.clientWidth) return;
    const width = this.trace.tokens.length - this.first;
    const height = this.order.length;
    this.cellWidth = Math.min(WIDEST, Math.max(NARROWEST, this.element.clientWidth / width));
    this.cellHeight = Math.max(1, Math.min(6, TALLEST / height));
    this.plane.style.width = `${width * this.cellWidth}px`;
    this.plane.style.height = `${height * this.cellHeight}px`;
    const labelled = this.cellWidth >= LABELLED_WIDTH;
    this.labels.hidden = !labelled;
    this.labels.replaceChildren(
      ...(labelled
        ? this.trace.tokens.slice(this.first).map((token) => {
            const label = make("span", {}, quoted(token));
            label.style.width = `${this.cellWidth}px`;
            return label;
          })
        : []),
    );
    this.#cross();
  }

  #cross() {
    if (this.step === undefined || !this.cellWidth) return;
    const set = (element, x, y, width, height) => {
      element.style.transform = `translate(${x}px, ${y}px)`;
      element.style.width = `${width}px`;
      element.style.height = `${height}px`;
    };
    const x = (this.step - this.first) * this.cellWidth;
    const y = this.place * this.cellHeight;
    const all = this.order.length * this.cellHeight;
    const wide = (this.trace.tokens.length - this.first) * this.cellWidth;
    set(this.column, x, 0, this.cellWidth, all);
    set(this.row, 0, y, wide, this.cellHeight);
    set(this.hair, x, y, this.cellWidth, this.cellHeight);
  }

  #reveal() {
    const x = (this.step - this.first) * (this.cellWidth ?? 0);
    const { scrollLeft, clientWidth } = this.scroller;
    if (x < scrollLeft || x + this.cellWidth > scrollLeft + clientWidth)
      this.scroller.scrollLeft = x - clientWidth / 2;
  }

  #say(step, place) {
    if (step === undefined || !this.trace || place < 0) return;
    const unit = this.order[place];
    this.readout.replaceChildren(
      quoted(this.trace.tokens[step]),
      ` \u00b7 unit ${unit} \u00b7 ${this.kind === "states" ? "state" : this.kind === "cells" ? "cell state" : this.kind} `,
      make("b", {}, plain(this.values[step][unit])),
    );
  }

  #pointed(event, choose) {
    const box = this.canvas.getBoundingClientRect();
    const width = this.trace.tokens.length - this.first;
    const at = (value, count) => Math.min(count - 1, Math.max(0, Math.floor(value * count)));
    const step = this.first + at((event.clientX - box.left) / box.width, width);
    const place = at((event.clientY - box.top) / box.height, this.order.length);
    if (choose) this.#move(step, place);
    else this.#say(step, place);
  }

  #move(step, place) {
    this.step = Math.min(this.trace.tokens.length - 1, Math.max(this.first, step));
    this.place = Math.min(this.order.length - 1, Math.max(0, place));
    this.#cross();
    this.#say(this.step, this.place);
    this.#reveal();
    this.onmove(this.step, this.unit);
  }

  #key(event) {
    if (!this.trace || event.altKey || event.ctrlKey || event.metaKey) return;
    const many = event.shiftKey ? 10 : 1;
    const moves = {
      ArrowLeft: [-many, 0],
      ArrowRight: [many, 0],
      ArrowUp: [0, -many],
      ArrowDown: [0, many],
      PageUp: [0, -10],
      PageDown: [0, 10],
      Home: [-Infinity, 0],
      End: [Infinity, 0],
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    this.#move(this.step + move[0], this.place + move[1]);
  }
}
