"""What TextClassifier's arguments say: checked, as a network and a training need them, and as model
files tell them.

Functions take the classifier as ``options`` and only read its arguments.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate import initializers, ops
from tidegate.errors import ConfigError, ModelFileError, unknown_choice
from tidegate.labels import check_class_weight, plain
from tidegate.model import ModelConfig, check_dropout, check_whole
from tidegate.ngrams import LONGEST
from tidegate.noise import Dropout, check_rate
from tidegate.records import TrainConfig, check_positive
from tidegate.subwords import check_tokenizer, told
from tidegate.text import check_keep
from tidegate.vectors import check_vectors

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier

# Of ``epochs=None``: few texts are seen often enough for about this many steps, many texts thrice.
# On 1,000, 5,000 and 25,000 reviews of IMDB's training set, held-out accuracy stops rising there.
# Where the learning rate falls it is twice as many.
_AUTO_STEPS = 400
_AUTO_EPOCHS = (3, 20)
_EMBEDDING_SIZE = 128
# Arguments that model files don't tell: they are of the machine that trained, not of the model.
UNTOLD = ("threads", "vectors", "freeze_vectors")

# Dropout's rates, and the arguments that are they.
_RATES = {
    "words": "word_dropout",
    "vocabulary": "vocabulary_dropout",
    "embedding": "embedding_dropout",
    "layers": "layer_dropout",
    "recurrent": "recurrent_dropout",
    "output": "dropout",
}


def check(options: TextClassifier) -> None:
    """See ``TextClassifier.check``."""
    network = model_config(options, classes=2)
    options.split(0)
    config = train_config(options, epochs=1 if options.epochs is None else options.epochs)
    check_dropout(config.dropout, network)
    check_class_weight(options.class_weight)
    check_tokenizer(options.tokenizer)
    check_keep(options.keep)
    check_vectors(options.vectors, options.freeze_vectors, options.context_vectors)
    check_whole("ngrams", options.ngrams, 0, LONGEST)
    if not 1e-6 <= check_positive("ngram_cost", options.ngram_cost) <= 1e6:
        raise ConfigError(f"ngram_cost={options.ngram_cost!r} is not between 1e-6 and 1e+6")
    if not isinstance(options.calibrate, bool):
        raise ConfigError(f"calibrate={options.calibrate!r} is neither True nor False")
    if not isinstance(options.precision, str):
        raise unknown_choice("precision", options.precision, ("auto", *ops.PRECISIONS))
    ops.choose_precision(options.precision)
    if options.threads is not None:
        check_whole("threads", options.threads, 1, ops.MAX_THREADS)


def split(
    options: TextClassifier, texts: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """See ``TextClassifier.split``."""
    check_whole("texts", texts, 0, sys.maxsize)
    check_whole("random_state", options.random_state, 0, 2**63 - 1)
    fraction = options.validation_fraction
    if isinstance(fraction, bool) or not isinstance(
        fraction, (int, float, np.integer, np.floating)
    ):
        raise ConfigError(f"validation_fraction={fraction!r} is not a number")
    if not 0.0 <= fraction < 1.0:
        raise ConfigError(
            f"validation_fraction={fraction!r} must be at least 0 (no validation) and below 1"
        )
    order = initializers.permutation(options.random_state, "split", texts)
    # As Keras's validation_split cuts; one text is always left to train on.
    kept = max(1, int(texts * (1.0 - fraction)))
    return order[:kept], order[kept:]


def model_config(options: TextClassifier, classes: int) -> ModelConfig:
    """The network for so many classes. ConfigError for what none can be."""
    size = _EMBEDDING_SIZE if options.embedding_size is None else options.embedding_size
    return ModelConfig(
        cell=options.cell,
        reset=options.reset,
        vocabulary_size=options.vocabulary_size,
        embedding_size=size,
        hidden_size=options.hidden_size,
        classes=classes,
        max_length=options.max_length,
        masked=options.masked,
        layers=options.layers,
        bidirectional=options.bidirectional,
        pooling=options.pooling,
        layer_norm=options.layer_norm,
    )


def train_config(options: TextClassifier, epochs: int) -> TrainConfig:
    """The training of so many epochs. ConfigError for what none can be."""
    return TrainConfig(
        epochs=epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        beta_2=options.beta_2,
        clip_norm=options.clip_norm,
        seed=options.random_state,
        weight_decay=options.weight_decay,
        schedule=options.schedule,
        warmup=options.warmup,
        average=options.average,
        label_smoothing=options.label_smoothing,
        patience=options.patience,
        dropout=Dropout(
            **{part: check_rate(name, getattr(options, name)) for part, name in _RATES.items()}
        ),
    )


def epochs_for(options: TextClassifier, texts: int) -> int:
    """See ``TextClassifier.epochs_for``."""
    training, _ = options.split(texts)
    config = train_config(options, epochs=1 if options.epochs is None else options.epochs)
    if options.epochs is not None:
        return config.epochs
    steps = -(-len(training) // config.batch_size) or 1
    fewest, most = _AUTO_EPOCHS
    times = 1 if config.schedule == "constant" else 2
    return times * min(max(-(-_AUTO_STEPS // steps), fewest), most)


def to_json(options: TextClassifier) -> dict[str, Any]:
    """The arguments as a model file tells them, which have been checked."""
    params = {k: v for k, v in options.get_params().items() if k not in UNTOLD}
    params["tokenizer"] = told(options.tokenizer)
    if options.embedding_size is None:
        params["embedding_size"] = _EMBEDDING_SIZE
    if not options.calibrate:
        del params["calibrate"]  # as files tell it that know of no calibration
    for name, parameter in options._parameters().items():
        number = isinstance(parameter.default, float) or name == "clip_norm"
        if number and params[name] is not None:
            params[name] = float(params[name])  # 1 and 1.0 are the same job
    if isinstance(options.class_weight, Mapping):
        params["class_weight"] = [
            [plain(label), float(weight)] for label, weight in options.class_weight.items()
        ]
    return {name: plain(value) for name, value in params.items()}


def from_json(
    stored: Mapping[str, Any], names: Iterable[str], path: str | os.PathLike[str]
) -> dict[str, Any]:
    """The arguments that ``to_json`` told, of those names. ModelFileError for what are none."""
    given = {name: stored[name] for name in names if name in stored}
    given.setdefault("calibrate", False)
    if isinstance(given.get("class_weight"), list):  # JSON has no labels but str as keys
        try:
            given["class_weight"] = dict(given["class_weight"])
        except (TypeError, ValueError) as error:
            raise ModelFileError(
                f"{path} is not a usable model (its class_weight is no list of pairs); train "
                "or download it again"
            ) from error
    return given
