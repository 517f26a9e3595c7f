"""The options that ``tidegate compare`` has for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli import options

Cells = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Models with commas between them: gru, gru-before (its reset gate before the "
        "recurrent product), lstm, rnn, linear. Without it: gru,lstm,rnn,linear.",
    ),
]
Seeds = Annotated[
    int, options.whole("How often each model is trained, each time with another seed.")
]
Seed = Annotated[int, options.whole("The first seed.")]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of the networks: lecture (the default for imdb), default (the default for a "
        "file), accurate or fast; without the n-grams that stand beside some of them.",
    ),
]
Budget = Annotated[
    float | None,
    options.real(
        "Train each network for so long, in place of equal epochs: in whole epochs, as "
        "many as fit by a trial of its first steps, at least one.",
        metavar="SECONDS",
    ),
]
Settings = Annotated[
    list[options.Setting] | None,
    options.settings(
        "Any other argument of TextClassifier for all networks, such as hidden_size=64; "
        "may be given several times. See docs/models.md."
    ),
]
Validation = Annotated[
    options.HeldOut | None,
    options.share_or_file(
        "What a model is chosen by: a share of the training texts, or a table or folder of its own."
    ),
]
Test = Annotated[
    options.HeldOut | None,
    options.share_or_file(
        "What is measured at the end: a share of each label's texts, by default 0.2, or a "
        "table or folder of its own. imdb has its own."
    ),
]
Margin = Annotated[
    float,
    options.real(
        "Accuracy by which a model may be worse than the best and still be recommended; "
        "more where the validation texts are too few to tell."
    ),
]
Markdown = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables as text.")
]
Page = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page with tables and plots."),
]
Work = Annotated[
    Path, typer.Option(metavar="FILE", help="Where finished runs are kept until all are.")
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on from the kept runs.", show_default=False),
]
Force = Annotated[
    bool, typer.Option("--force", help="Begin anew if runs are kept.", show_default=False)
]
