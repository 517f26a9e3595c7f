"""What a server is told: its models, where it listens, its limits."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.errors import ConfigError
from tidegate.model import check_whole
from tidegate.server.hosts import check_host

TOKEN_VARIABLE = "TIDEGATE_TOKEN"  # noqa: S105 (its name)
_SHORTEST_TOKEN = 16  # characters: shorter ones can be tried out
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take. Each worker has these for itself.

    body_bytes, request_texts, characters: of a request, its number of texts, and one text.
    explained_texts, explained_tokens: texts of a request that are explained, and tokens of each.
    explained_reads: tokens that are read to explain one: what the model reads of it, once for each
    of its tokens. traced_numbers: gates and states in one answer.
    waiting_texts: texts that wait for the scorer. explanations: requests that wait for the
    explainer. held_bytes: bodies of all requests that are not answered yet. connections: open at
    once. header_bytes: of a request's first line and headers. header_seconds, body_seconds: until
    they are there. scoring_seconds: until an answer. idle_seconds: of an open connection without a
    request. sending_bytes, sending_seconds: what a client must take of its answers again and again,
    and in which time. unread_bytes: of all answers that wait for their readers. stopping_seconds:
    for what was accepted, when the server is asked to stop.
    """

    body_bytes: int = 4_000_000
    request_texts: int = 1_000
    characters: int = 200_000
    explained_texts: int = 16
    explained_tokens: int = 5_000
    explained_reads: int = 1_000_000
    traced_numbers: int = 2_000_000
    waiting_texts: int = 2_000
    explanations: int = 16
    held_bytes: int = 64_000_000
    connections: int = 1_000
    header_bytes: int = 16_384
    header_seconds: int = 10
    body_seconds: int = 30
    scoring_seconds: int = 30
    idle_seconds: int = 30
    sending_seconds: int = 30
    sending_bytes: int = 150_000
    unread_bytes: int = 64_000_000
    stopping_seconds: int = 30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_whole(name, value, 1, 2**31 - 1)


@dataclass(frozen=True)
class ModelFile:
    """A model file and the name that requests call it by."""

    name: str
    path: Path


@dataclass(frozen=True)
class Settings:
    """How a server runs.

    models: at least one; the first is what a request without a name gets. host, port: where it
    listens, port 0 for any that is free. workers: processes that share the port. threads: kernel
    threads of each worker, None for its share of the processors. token: what requests have to
    bring, or None. allowed_hosts: names that it may be asked for by (see ``hosts``). batch: texts
    that are scored together at most. quiet: whether requests are not logged. Raises ConfigError.
    """

    models: tuple[ModelFile, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int | None = None
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    batch: int = 64
    quiet: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_whole("port", self.port, 0, 65_535)
        check_whole("workers", self.workers, 1, 256)
        check_whole("batch", self.batch, 1, 10_000)
        if self.threads is not None:
            check_whole("threads", self.threads, 1, 256)
        for given in self.allowed_hosts:
            check_host(given)
        names: dict[str, Path] = {}
        for model in self.models:
            if model.name in names:
                raise ConfigError(
                    f"two models have the name {model.name!r}: {str(names[model.name])!r} and "
                    f"{str(model.path)!r}; name one by NAME=PATH"
                )
            names[model.name] = model.path


def model_files(arguments: Sequence[str]) -> tuple[ModelFile, ...]:
    """Models from PATH, named by the file without its ending, or from NAME=PATH."""
    return tuple(_model_file(argument) for argument in arguments)


def _model_file(argument: str) -> ModelFile:
    name, equals, path = argument.partition("=")
    if not equals or os.path.exists(argument) or not re.fullmatch(r"[\w.-]+", name):
        name, path = Path(argument).stem, argument
    if not name.isprintable() or not name.strip() or len(name) > _LONGEST_NAME:
        raise ConfigError(f"{argument!r} gives no name to call the model by; write NAME=PATH")
    if not path:
        raise ConfigError(f"{argument!r} has no file after the name; write NAME=PATH")
    return ModelFile(name, Path(path))


def read_token(path: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The token in a file, or else in TIDEGATE_TOKEN; None if neither is given.

    Never from the command line, which every user of a machine can read. ConfigError for a file that
    can't be read, and for what is too short to be a secret.
    """
    if path is not None:
        try:
            with open(path, encoding="ascii") as file:
                text = file.read(10_000)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not plain ASCII"
            raise ConfigError(f"token_file={str(path)!r} can't be read: {reason}") from None
        source = f"the file {str(path)!r}"
    elif TOKEN_VARIABLE in environment:
        text, source = environment[TOKEN_VARIABLE], TOKEN_VARIABLE
    else:
        return None
    token = text.strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise ConfigError(f"the token in {source} is empty, or has blanks or signs beyond ASCII")
    if len(token) < _SHORTEST_TOKEN:
        raise ConfigError(
            f"the token in {source} has {len(token)} characters; at least {_SHORTEST_TOKEN} are "
            "needed (openssl rand -hex 32 makes one)"
        )
    return token
