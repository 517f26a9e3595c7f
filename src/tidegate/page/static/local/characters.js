// Python's view of Unicode, so that words are what they were in training whatever the browser knows.
//
// The tables are written by Python (characters.py): `lower` holds runs [first, count, step,
// difference] of characters whose lower case is another one, `kinds` the places where the kind of
// character changes, each with the kind from there on.

const KEPT = 0; // part of a word
const DROPPED = 1;
const BLANK = 2;
const ALONE = 3; // a token by itself
const APOSTROPHE = 4;

const CAPITAL_SIGMA = 0x3a3;
const DOTTED_CAPITAL_I = 0x130; // the only one whose lower case has two characters
const CASED = /\p{Cased}/u;
const CASE_IGNORABLE = /\p{Case_Ignorable}/u;

export class Characters {
  constructor({ lower, kinds }) {
    this.lowered = new Map();
    for (const [first, count, step, difference] of lower)
      for (let i = 0; i < count; ++i)
        this.lowered.set(first + i * step, first + i * step + difference);
    this.begins = kinds.map(([begin]) => begin);
    this.kinds = kinds.map(([, kind]) => kind);
  }

  kind(code) {
    let low = 0;
    let high = this.begins.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.begins[middle] <= code) low = middle + 1;
      else high = middle;
    }
    return low ? this.kinds[low - 1] : KEPT;
  }

  // The text that a tokeniser's rules for ASCII are applied to, in lower case; and for each of its
  // UTF-16 units the number of the character of `text` that it comes from.
  prepare(text, spaced) {
    const characters = Array.from(text);
    const places = [];
    let out = "";
    for (let i = 0; i < characters.length; ++i) {
      const piece = this.#prepared(characters, i, spaced);
      out += piece;
      for (let unit = 0; unit < piece.length; ++unit) places.push(i);
    }
    return { text: out, places };
  }

  #prepared(characters, i, spaced) {
    const code = characters[i].codePointAt(0);
    if (code < 128) return characters[i].toLowerCase();
    let lowered;
    if (code === CAPITAL_SIGMA) lowered = this.#endsWord(characters, i) ? "ς" : "σ";
    else if (code === DOTTED_CAPITAL_I) lowered = "i\u0307";
    else lowered = String.fromCodePoint(this.lowered.get(code) ?? code);
    if (!spaced) return lowered;
    return Array.from(lowered, (character) => this.#spaced(character)).join("");
  }

  #spaced(character) {
    const code = character.codePointAt(0);
    if (code < 128) return character;
    switch (this.kind(code)) {
      case DROPPED:
        return "";
      case BLANK:
        return " ";
      case ALONE:
        return ` ${character} `;
      case APOSTROPHE:
        return "'";
      default:
        return character;
    }
  }

  // Whether a capital sigma is the last letter of its word: Unicode's Final_Sigma.
  #endsWord(characters, at) {
    const nextLetter = (step) => {
      let i = at + step;
      while (i >= 0 && i < characters.length && CASE_IGNORABLE.test(characters[i])) i += step;
      return i >= 0 && i < characters.length && CASED.test(characters[i]);
    };
    return nextLetter(-1) && !nextLetter(1);
  }
}
