"""``tidegate serve``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.cli import options, terminal
from tidegate.errors import MissingPackageError


def _count(option: str, help: str) -> Any:
    """A whole number; what it is without the option is for the server's settings to say."""
    return typer.Option(option, metavar="N", parser=options.whole_number, help=help)


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Model files; requests name one by its file name without the ending. NAME=PATH "
            "gives another name. The first is what requests get that name none.",
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")
    ] = "127.0.0.1",
    port: Annotated[int | None, _count("--port", "8000 if not given; 0 takes a free one.")] = None,
    workers: Annotated[
        int | None, _count("--workers", "Processes that share the port; 1 if not given.")
    ] = None,
    threads: Annotated[
        int | None,
        _count(
            "--threads",
            "Threads that each worker computes with; without it TIDEGATE_THREADS, or the cores "
            "divided by the workers.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Requests must bring the token in this file; TIDEGATE_TOKEN holds one, too.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="A name under which the server may be asked for; may be repeated. Without it, a "
            "server that only this machine reaches answers to localhost, any other to all names.",
        ),
    ] = None,
    batch: Annotated[
        int | None, _count("--batch", "Texts that are scored together at most; 64 if not given.")
    ] = None,
    max_body: Annotated[
        int | None, _count("--max-body", "Bytes of a request; 4000000 if not given.")
    ] = None,
    max_texts: Annotated[
        int | None, _count("--max-texts", "Texts of a request; 1000 if not given.")
    ] = None,
    max_characters: Annotated[
        int | None, _count("--max-characters", "Characters of a text; 200000 if not given.")
    ] = None,
    max_waiting: Annotated[
        int | None,
        _count("--max-waiting", "Texts that may wait before it answers 503; 2000 if not given."),
    ] = None,
    timeout: Annotated[
        int | None,
        _count("--timeout", "Seconds for a request to arrive, and to be answered; 30 if not given"),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Log no requests.", show_default=False)
    ] = False,
) -> None:
    """Serve models over HTTP, and a page that shows what they do.

    It takes connections from this machine alone, unless --host says otherwise. A model file that is
    replaced is loaded again. Ctrl-C or SIGTERM ends it when all accepted requests are answered.

    \b
    Example:
      tidegate serve reviews.safetensors
      tidegate serve reviews.safetensors new=other.safetensors --port 8080 --workers 2
    """
    _check_packages()
    from tidegate import server
    from tidegate.server import workers as processes

    limits = server.Limits(
        **_given(
            body_bytes=max_body,
            request_texts=max_texts,
            characters=max_characters,
            waiting_texts=max_waiting,
            body_seconds=timeout,
            scoring_seconds=timeout,
            stopping_seconds=timeout,
        )
    )
    settings = server.Settings(
        models=server.model_files(models),
        host=host,
        threads=threads,
        token=server.read_token(token_file),
        allowed_hosts=tuple(allowed_host or ()),
        quiet=quiet,
        limits=limits,
        **_given(port=port, workers=workers, batch=batch),
    )
    names = ", ".join(model.name for model in settings.models)

    def started(address: str) -> None:
        terminal.say(f"serving {names} on {address} (Ctrl-C stops it)")
        host = address.removeprefix("http://").rpartition(":")[0].strip("[]")
        if settings.token is None and not server.is_loopback(host):
            terminal.note(
                f"whoever reaches {address} can use the models; --token-file asks for a token"
            )

    processes.serve(settings, started)


def _given(**values: int | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _check_packages() -> None:
    """MissingPackageError without one that the server needs."""
    for name in ("fastapi", "httptools", "prometheus_client", "uvicorn"):
        try:
            found = importlib.util.find_spec(name) is not None
        except ValueError:
            found = False
        if not found:
            raise MissingPackageError(
                f"serve needs the package {name}; pip install 'tidegate[serve]'"
            )
