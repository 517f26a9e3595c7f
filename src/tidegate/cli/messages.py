"""The library's messages in the words of the command line.

They name Python's arguments, ``hidden_size=0``; who has typed ``--hidden-size 0`` or ``--set
layers=0`` is to read that.
"""

from __future__ import annotations

import re
import sys

from typer.core import TyperCommand

_WORD = re.compile(r"(^|[ (])([a-z][a-z0-9_]*)(?==\S)")
_UNKNOWN = re.compile(r"^parameter=('[^']*') ")
# Outside of quotes, where they are the user's own.
_VALUES = re.compile(r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|\b(True|False|None)\b")

# Arguments of the server's that its options have shorter names for.
_SHORTER = {
    "body_bytes": "max-body",
    "request_texts": "max-texts",
    "characters": "max-characters",
    "waiting_texts": "max-waiting",
    "body_seconds": "timeout",
}


def in_options(message: str, command: TyperCommand | None) -> str:
    """The message with the command's options where it says ``name=value``.

    ``--seed=-1`` for ``random_state=-1``; ``--set layers=0`` for an argument without an option of
    its own, if the command has ``--set``. Values are then written as options take them.
    """
    known = _options(command)
    told = _WORD.sub(lambda found: found[1] + known.get(found[2], found[2]), message)
    told = _UNKNOWN.sub(r"--set \1 ", told)
    if told == message:
        return message
    told = _VALUES.sub(lambda found: found[1] or found[2].lower(), told)
    for flag in _flags(command):
        told = re.sub(rf"{flag}=true\b", flag, told)
    return re.sub(r"\bset (?=--)", "give ", told)


def option_of(argument: str) -> str:
    """The option, without its dashes, that sets an argument of TextClassifier's."""
    return {"random_state": "seed", "validation_fraction": "validation"}.get(
        argument, argument.replace("_", "-")
    )


def _flags(command: TyperCommand | None) -> list[str]:
    """The options that take no value."""
    params = [] if command is None else command.params
    return [option for each in params if getattr(each, "is_flag", False) for option in each.opts]


def _options(command: TyperCommand | None) -> dict[str, str]:
    """Of each argument that a message may name, the option."""
    if command is None:
        return {}
    names = [option[2:] for each in command.params for option in each.opts if option[:2] == "--"]
    known = {name.replace("-", "_"): f"--{name}" for name in names}
    known.update({name: f"--{option}" for name, option in _SHORTER.items() if option in names})
    estimator = sys.modules.get("tidegate.estimator")  # not yet there, it has said nothing either
    if "set" in known and estimator is not None:
        for argument in estimator.TextClassifier._parameter_names():
            option = option_of(argument)
            own = option in names and argument != "keep"  # --keep names earlier texts
            known[argument] = f"--{option}" if own else f"--set {argument}"
    return known
