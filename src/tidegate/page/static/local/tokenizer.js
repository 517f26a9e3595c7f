// Words and their ids, by the rules of src/tidegate/tokens.py and text.py.

export const PADDING_ID = 0;
export const START_ID = 1;
export const UNKNOWN_ID = 2;
export const FIRST_WORD_ID = 4;
export const START_MARK = "<start>";
const BREAK = "<br>";

const IS_BREAK = /^(?:<br[ \t]*\/?>|[\n\r])$/;
const WORD_PIECE =
  /<br[ \t]*\/?>|[\n\r]|[^\x00-/:-@[-`{-\x7f]+(?:'[^\x00-/:-@[-`{-\x7f]+)*|[^\x00- \x7f]/g;
const LECTURE_PIECE = /[^ !"#$%&()*+,\-./:;<=>?@[\\\]^_`{|}~\t\n]+/g;

export class Tokenizer {
  constructor({ kind, keep, start, unknown, words }, characters) {
    this.kind = kind;
    this.keep = keep;
    this.start = start;
    this.unknown = unknown;
    this.characters = characters;
    this.ids = new Map(words.map((word, i) => [word, FIRST_WORD_ID + i]));
  }

  // The tokens of a text, and where each stands in it: [begin, end) in characters (code points).
  tokens(text) {
    const spaced = this.kind === "words";
    const { text: prepared, places } = this.characters.prepare(text, spaced);
    const tokens = [];
    const spans = [];
    let broken = null;
    for (const found of prepared.matchAll(spaced ? WORD_PIECE : LECTURE_PIECE)) {
      const begin = found.index;
      const end = begin + found[0].length;
      if (spaced && IS_BREAK.test(found[0])) {
        broken ??= [places[begin], places[begin] + 1];
        continue;
      }
      if (broken && tokens.length) {
        tokens.push(BREAK);
        spans.push(broken);
      }
      broken = null;
      tokens.push(found[0]);
      spans.push([places[begin], places[end - 1] + 1]);
    }
    return { tokens, spans };
  }

  // Which of the tokens at `places` are tokens of a text of these alone: a line break that would
  // stand at an edge or beside another one is none.
  settled(tokens, places) {
    if (this.kind !== "words") return places;
    const found = [];
    let broken = null;
    for (const place of places) {
      if (tokens[place] === BREAK) {
        broken ??= place;
        continue;
      }
      if (broken !== null && found.length) found.push(broken);
      broken = null;
      found.push(place);
    }
    return found;
  }

  // How many of the first `count` tokens are tokens of a text that ends there.
  ended(tokens, count) {
    return count && this.kind === "words" && tokens[count - 1] === BREAK ? count - 1 : count;
  }

  id(token) {
    return this.ids.get(token) ?? UNKNOWN_ID;
  }

  // Which of the tokens stands behind each id that is read; -1 for START_ID.
  placesRead(tokens, maxLength) {
    const places = this.start ? [-1] : [];
    for (let i = 0; i < tokens.length; ++i)
      if (this.unknown || this.ids.has(tokens[i])) places.push(i);
    if (places.length <= maxLength) return places;
    const head = this.#head(maxLength);
    return [...places.slice(0, head), ...places.slice(places.length - (maxLength - head))];
  }

  encode(tokens, maxLength) {
    return this.placesRead(tokens, maxLength).map((place) =>
      place < 0 ? START_ID : this.id(tokens[place]),
    );
  }

  // A function that gives the ids of the first `count` tokens, as if the text ended there.
  beginnings(tokens, maxLength) {
    const all = this.start ? [START_ID] : [];
    const counts = [all.length]; // ids of the first 0, 1, 2 and more tokens
    for (const token of tokens) {
      if (this.unknown || this.ids.has(token)) all.push(this.id(token));
      counts.push(all.length);
    }
    return (count) => {
      const end = counts[count];
      if (end <= maxLength) return all.slice(0, end);
      const head = this.#head(maxLength);
      return [...all.slice(0, head), ...all.slice(end - (maxLength - head), end)];
    };
  }

  // How many of a long text's first ids are kept.
  #head(maxLength) {
    return { end: 0, start: maxLength, both: Math.floor(maxLength / 4) }[this.keep];
  }
}
