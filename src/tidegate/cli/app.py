"""The commands in one Typer application, and what becomes of every error."""

from __future__ import annotations

import os
import re
import sys
import warnings
from typing import Annotated

import typer
from typer.main import get_command

from tidegate.cli import terminal
from tidegate.cli.evaluate import evaluate
from tidegate.cli.explain import explain
from tidegate.cli.exporting import export
from tidegate.cli.importing import import_
from tidegate.cli.info import info
from tidegate.cli.messages import in_options
from tidegate.cli.predict import predict
from tidegate.cli.train import train
from tidegate.errors import TidegateError, TrainingInterrupted

# Without rich markup, help needs no import of rich (50 ms) and is plain in every terminal.
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(train)
app.command()(evaluate)
app.command()(predict)
app.command()(explain)
app.command()(info)
app.command("import")(import_)
app.command()(export)


def _version(wanted: bool) -> None:
    if wanted:
        from tidegate import __version__

        terminal.say(f"tidegate {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def tidegate(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Train and use gated recurrent text classifiers on an ordinary CPU.

    \b
    Example:
      tidegate train imdb
      tidegate predict model.safetensors "what a film"
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status; see ``tidegate.cli.main``."""
    terminal.prepare()
    with warnings.catch_warnings():
        warnings.showwarning = terminal.note
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    command = get_command(app)
    named = next((word for word in arguments if not word.startswith("-")), "")
    chosen = getattr(command, "commands", {}).get(named)
    try:
        # Not app(): it would turn Ctrl-C and a closed pipe into exits before they are told apart.
        with command.make_context("tidegate", arguments) as context:
            command.invoke(context)
        terminal.flush()
        return 0
    except typer.Exit as exit_request:
        return exit_request.exit_code
    except TrainingInterrupted as stop:
        terminal.settle_output()
        terminal.complain(in_options(str(stop), chosen))
        return 128 + stop.signal_number
    except terminal.OutputClosedError as closed:
        terminal.settle_output()
        if str(closed):
            terminal.complain(str(closed))
        return 141
    except TidegateError as error:
        return _refuse(in_options(str(error), chosen))
    except MemoryError as error:
        return _refuse(f"not enough memory ({error}); use smaller sizes or a smaller batch")
    except typer.TyperException as error:
        return _refuse(_usage_message(error))
    except BrokenPipeError:  # from Typer's own printing
        terminal.settle_output()
        return 141
    except OSError as error:  # the system's refusals that no layer below could explain better
        return _refuse(f"{error}; check the path, its permissions and the space on the disk")
    except Exception as error:
        return _confess(error)


def _refuse(message: str) -> int:
    terminal.settle_output()
    # A path has shorter names than this; what is longer was hardly typed.
    message = re.sub(r"\S{300,}", lambda word: f"{word[0][:80]}...{word[0][-20:]}", message)
    terminal.complain(f"error: {message}")
    return 2


def _usage_message(error: typer.TyperException) -> str:
    """What was typed wrong, with Typer's near matches, and where to read more."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    end = " See" if message.endswith("?") else "; see"
    return f"{message}{end} '{context.command_path if context else 'tidegate'} --help'"


def _confess(error: Exception) -> int:
    """A bug: the traceback if it is asked for, else one line that asks for a report."""
    terminal.settle_output()
    if os.environ.get("TIDEGATE_DEBUG") == "1":
        sys.excepthook(type(error), error, error.__traceback__)
    else:
        terminal.complain(
            f"error: unexpected {type(error).__name__}: {error}; this is a bug, please report it "
            "with what the same command prints under TIDEGATE_DEBUG=1"
        )
    return 1
