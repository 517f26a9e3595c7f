// Elements, made without markup: whatever a text holds, it stays text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "className") element.setAttribute("class", value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function make(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function draw(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

// A person's text inside the page's own: its direction ends where it does.
export function quoted(text) {
  return make("bdi", { dir: "auto" }, text);
}

// A choice of one among few, as buttons side by side.
export function segments(legend, options, chosen, onchange) {
  const name = `segments-${(segments.count = (segments.count ?? 0) + 1)}`;
  return make(
    "fieldset",
    { className: "segments" },
    make("legend", {}, legend),
    ...options.map(([value, label]) =>
      make(
        "label",
        {},
        make("input", {
          type: "radio",
          name,
          value,
          checked: value === chosen,
          onchange: () => onchange(value),
        }),
        make("span", {}, label),
      ),
    ),
  );
}

const MINUS = "\u2212";

export function signed(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  return `${value < 0 ? MINUS : "+"}${text}`;
}

export function plain(value, digits = 3) {
  return `${value < 0 ? MINUS : ""}${Math.abs(value).toFixed(digits)}`;
}

// Never "100 %" of what is not certain.
export function percent(share) {
  const value = 100 * share;
  if (value > 99.9 && share < 1) return "> 99.9 %";
  if (value < 0.1 && share > 0) return "< 0.1 %";
  return `${value.toFixed(value > 99 || value < 1 ? 1 : 0)} %`;
}

export function counted(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

// A label as answers name it: itself, or a number or truth value as JSON writes it.
export function labelText(label) {
  return typeof label === "string" ? label : JSON.stringify(label);
}

export function probabilityOf(result, label) {
  const { probabilities } = result;
  const name = labelText(label);
  if (Object.hasOwn(probabilities, name)) return probabilities[name];
  // Python writes 1.0 where JavaScript writes 1.
  return typeof label === "number" ? (probabilities[`${name}.0`] ?? NaN) : NaN;
}
