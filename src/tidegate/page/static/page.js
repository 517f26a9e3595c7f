// The page: a text, one model or two, and what they say.

import { counted, labelText, make } from "./dom.js";
import { Panel } from "./panel.js";

const TYPING_PAUSE = 250; // milliseconds without a key before a text is read

// Fills the page of index.html. backend: as docs/page.md describes it.
export async function startPage(backend) {
  const page = new Page(backend);
  await page.begin();
  return page;
}

class Page {
  constructor(backend) {
    this.backend = backend;
    const get = (id) => document.getElementById(id);
    this.text = get("text");
    this.count = get("count");
    this.model = get("model");
    this.beside = get("beside");
    this.label = get("label");
    this.problem = get("problem");
    this.panels = get("panels");
    this.hint = get("hint");
    this.access = get("access");
    this.shown = [];
  }

  async begin() {
    this.text.addEventListener("input", () => this.#typed());
    for (const select of [this.model, this.beside, this.label])
      select.addEventListener("change", () => this.#chose(select));
    this.access.addEventListener("submit", (event) => {
      event.preventDefault();
      this.backend.token = this.access.elements.token.value;
      this.#findModels();
    });
    await this.#findModels();
  }

  async #findModels() {
    try {
      this.models = await this.backend.models();
    } catch (error) {
      this.access.hidden = error.status !== 401;
      this.#complain(error.message);
      return;
    }
    this.access.hidden = true;
    this.#complain("");
    const options = this.models.map((model, i) => make("option", { value: String(i) }, model.name));
    this.model.replaceChildren(...options);
    this.beside.replaceChildren(
      make("option", { value: "" }, "nothing"),
      ...options.map((option) => option.cloneNode(true)),
    );
    this.model.closest("label").hidden = this.models.length < 2;
    this.beside.closest("label").hidden = this.models.length < 2;
    this.#fillLabels();
    this.#arrange();
    this.#read();
  }

  get #chosen() {
    return [this.model.value, this.beside.value]
      .filter((value) => value !== "")
      .map((value) => this.models[Number(value)]);
  }

  #fillLabels() {
    const before = this.label.value;
    const { labels } = this.#chosen[0];
    this.label.replaceChildren(
      make("option", { value: "" }, "the likeliest"),
      ...labels.map((label, i) => make("option", { value: String(i) }, labelText(label))),
    );
    this.label.value = before !== "" && Number(before) < labels.length ? before : "";
  }

  #arrange() {
    const count = this.#chosen.length;
    while (this.shown.length > count) this.shown.pop().element.remove();
    while (this.shown.length < count) {
      const panel = new Panel(this.backend, {
        onchoose: (begin) => {
          for (const other of this.shown) if (other !== panel) other.chooseAt(begin);
        },
      });
      this.shown.push(panel);
      this.panels.append(panel.element);
    }
    this.panels.classList.toggle("two", count === 2);
  }

  #typed() {
    clearTimeout(this.waiting);
    this.#say();
    this.waiting = setTimeout(() => this.#read(), TYPING_PAUSE);
  }

  #chose(select) {
    if (select === this.model) this.#fillLabels();
    this.#arrange();
    this.#read();
  }

  #say() {
    this.count.textContent = this.text.value ? counted(this.text.value.length, "character") : "";
  }

  #complain(message) {
    this.problem.textContent = message;
    this.problem.hidden = !message;
  }

  async #read() {
    clearTimeout(this.waiting);
    this.reading?.abort();
    const reading = (this.reading = new AbortController());
    this.#say();
    const text = this.text.value;
    const empty = !text.trim();
    this.hint.hidden = !empty;
    this.panels.hidden = empty;
    if (empty || !this.models) {
      for (const panel of this.shown) panel.clear();
      return;
    }
    const chosen = this.#chosen;
    const label = this.label.value === "" ? null : chosen[0].labels[Number(this.label.value)];
    await Promise.all(
      chosen.map((model, i) =>
        this.shown[i].update(text, {
          model,
          label: label !== null && model.labels.includes(label) ? label : null,
          signal: reading.signal,
        }),
      ),
    );
  }
}
