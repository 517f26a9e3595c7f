"""The options of ``tidegate train``: of the model, of the training, and of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.cli import options
from tidegate.cli.messages import option_of
from tidegate.errors import ConfigError

# Of the model. What is not given is the preset's.

Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Values of all options below: lecture (for imdb, if nothing is said), default (for "
        "a file, if nothing is said: a small network with dropout beside a linear model), accurate "
        "(larger and slower) or fast. Python's TextClassifier() is none of these: "
        "TextClassifier.from_preset('default') is what trains a file here.",
    ),
]
Cell = Annotated[str | None, typer.Option(metavar="NAME", help="gru, lstm or rnn.")]
Reset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="A GRU's reset gate acts after or before the recurrent product."
    ),
]
HiddenSize = Annotated[int | None, options.whole("Units of the hidden state.")]
EmbeddingSize = Annotated[int | None, options.whole("Numbers for each word.")]
VocabularySize = Annotated[
    int | None,
    options.whole("Ids for words: the N - 4 most frequent ones, and four special ids."),
]
MaxLength = Annotated[int | None, options.whole("Tokens read of a text: its last N.")]
Masked = Annotated[
    bool | None,
    typer.Option(
        "--masked/--unmasked",
        help="Begin each text with a zero state, or let the padding in front of it count.",
    ),
]
Ngrams = Annotated[
    int | None,
    options.whole("Put a linear model of up to N words in a row beside the network; 0 for none."),
]
TokenizerName = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="NAME|FILE",
        help="What a token is: words, lecture, or a Hugging Face tokenizer.json "
        "(pip install 'tidegate[tokenizers]').",
    ),
]
Vectors = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Words' vectors to begin with: GloVe's, or word2vec's or fastText's text form, also "
        "as .gz or .zst.",
    ),
]
FreezeVectors = Annotated[
    bool | None,
    typer.Option(
        "--freeze-vectors", help="Leave the words of that file as they are.", show_default=False
    ),
]
Settings = Annotated[
    list[options.Setting] | None,
    options.settings(
        "Any other argument of TextClassifier, such as layers=2 or pooling=max+mean; may "
        "be given several times. See docs/models.md."
    ),
]

# Of the training.

Epochs = Annotated[int | None, options.whole("Times that every text is seen.")]
BatchSize = Annotated[int | None, options.whole("Texts for each step.")]
LearningRate = Annotated[float | None, options.real("Adam's step size.")]
ClipNorm = Annotated[float | None, options.real("The largest norm of a step's gradient.")]
Validation = Annotated[
    options.HeldOut | None,
    options.share_or_file(
        "To validate each epoch: the share of the training texts that are held out, or a "
        "table or folder of its own."
    ),
]
Test = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A table or folder of texts on which the finished model is tested."
    ),
]
Seed = Annotated[
    int | None,
    options.whole("The same seed and data give the same model file, bit for bit."),
]

# Of the run: how it is computed, and what it writes.

Threads = Annotated[
    int | None,
    options.whole("Threads to use; the default is TIDEGATE_THREADS, or one for each core."),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of the matrix products: auto, float32, bf16x3, or bfloat16, which is faster on "
        "processors with AVX-512 BF16 and less exact.",
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="int8: a file about a quarter as large, its weights a little less exact; it is "
        "the file that the test set then measures.",
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Where a stopped training is kept; the default is beside the model: "
        "model.checkpoint.safetensors.",
    ),
]
Stream = Annotated[
    bool | None,
    typer.Option(
        "--stream/--in-memory",
        help="Read the table in portions and keep its texts on disk, or hold it in memory; the "
        "model is the same. Tables of more than 128 MB, or 32 MB if they are compressed or "
        "Parquet, are streamed unless it is said.",
    ),
]
WorkFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where a streamed table's texts lie while it is trained, as 2 to 4 bytes a word; the "
        "default is the model's folder.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on from the checkpoint.", show_default=False),
]


def preset_for(source: str) -> str:
    """The preset where none is given."""
    return "lecture" if source == "imdb" else "default"


def overrides(given: Mapping[str, Any], settings: Sequence[options.Setting]) -> dict[str, Any]:
    """The arguments of TextClassifier that options or ``--set`` give.

    ConfigError for one that is given twice.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    for setting in settings:
        if setting.name in chosen:
            option = option_of(setting.name)
            before = f"--{option}" if setting.name in given else "another --set"
            raise ConfigError(
                f"--set {setting.name} and {before} say the same twice; leave one of them out"
            )
        chosen[setting.name] = setting.value
    return chosen
