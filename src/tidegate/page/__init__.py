"""The page that shows what a model does with a text: static files, and the same as one file.

``static`` holds plain HTML, CSS and JavaScript modules, which a server gives as they are, with no
build step. ``one_file`` joins them for a page that opens from disk, under a content security policy
that allows its own script and style alone, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

FOLDER = Path(__file__).parent / "static"

_SERVED = "app.js"  # what index.html loads
_ALONE = "local/main.js"  # what takes its place in one file
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "([^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)


def read(name: str) -> str:
    """The text of one of the static files."""
    return (FOLDER / name).read_text(encoding="utf-8")


def one_file(title: str, data: Mapping[str, str]) -> Iterator[bytes]:
    """The whole page in pieces of UTF-8. It computes with ``local/main.js`` instead of a server.

    title: of the page, any text. data: by the id under which the script finds it, texts without
    ``<``, which are put in as they are.
    """
    style, script = read("style.css"), _joined(_ALONE)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    charset = '<meta charset="utf-8">\n'
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    page = read("index.html")
    for old, new in (
        (charset, charset + meta),
        ("<title>tidegate</title>", f"<title>{_as_text(title)}</title>"),
        ('<link rel="stylesheet" href="style.css">', f"<style>{style}</style>"),
    ):
        page = page.replace(old, new, 1)
    before, after = page.split(f'<script type="module" src="{_SERVED}"></script>\n')
    yield before.encode()
    for name, content in data.items():
        if "<" in content:
            raise ValueError(f"the data {name!r} would end its element; write < as \\u003c")
        # A type that is no script's is never run.
        yield f'<script type="application/json" id="{name}">'.encode()
        yield content.encode()
        yield b"</script>\n"
    yield f'<script type="module">{script}</script>\n'.encode()
    yield after.encode()


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _as_text(text: str) -> str:
    # Lone surrogates have no UTF-8.
    shown = text.encode("utf-8", "replace").decode()
    return shown.replace("&", "&amp;").replace("<", "&lt;")


def _joined(entry: str) -> str:
    """A module and all that it imports as one script, each in a scope of its own."""
    done: dict[str, str] = {}
    _join(entry, done)
    return "const modules = {};\n" + "".join(done.values())


def _join(name: str, done: dict[str, str]) -> None:
    """Put the modules that one needs, and then itself, behind what is ``done``."""
    source = read(name)
    if name in done:
        return
    done[name] = ""  # so that a circle ends
    folder = posixpath.dirname(name)
    paths = [path for _, path in _IMPORT.findall(source)]
    needed = {path: posixpath.normpath(posixpath.join(folder, path)) for path in paths}
    for other in needed.values():
        _join(other, done)
    body = _IMPORT.sub(lambda found: f'const {found[1]} = modules["{needed[found[2]]}"];\n', source)
    exported = ", ".join(found[1] for found in _EXPORT.findall(body))
    body = _EXPORT.sub(r"\1", body)
    del done[name]  # its place is behind what it needs
    done[name] = f'modules["{name}"] = (() => {{\n{body}return {{ {exported} }};\n}})();\n'
