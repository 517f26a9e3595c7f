"""A whole model that only predicts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidegate import _kernels
from tidegate.batch import TokenizedTexts
from tidegate.checks import check_array
from tidegate.errors import ShapeError
from tidegate.ops.machine import Precision, check_precision
from tidegate.ops.output import check_kernel
from tidegate.ops.recurrent import check_weights
from tidegate.reference import KINDS, Kind, RecurrentWeights

Float32 = npt.NDArray[np.float32]


class Scorer:
    """A whole model's snapshot that only predicts, for any number of texts and from any thread.

    Bit for bit the logits of ``recurrent_forward`` and ``linear_forward``, without what training
    needs. embedding: [V, I], read in place and so not to be changed afterwards; the others are
    copied. weights: see RecurrentWeights. output_kernel: [H, L]. output_bias: [L]. max_length,
    masked: as in ``pack``. precision: as in ``recurrent_forward``. memory: bytes that words' input
    products may take, kept for all words or, where these need more, made for some texts at a time.
    """

    def __init__(
        self,
        kind: Kind,
        embedding: Float32,
        weights: RecurrentWeights,
        output_kernel: Float32,
        output_bias: Float32,
        *,
        max_length: int,
        masked: bool,
        precision: Precision = "float32",
        memory: int = 256 << 20,
    ) -> None:
        hidden = check_weights(kind, weights)
        check_precision(precision)
        check_array("embedding", embedding, (None, len(weights.kernel)))
        check_kernel(output_kernel)
        check_array("output_kernel", output_kernel, (hidden, None))
        check_array("output_bias", output_bias, (output_kernel.shape[1],))
        if not 1 <= len(embedding) < 2**31:
            raise ShapeError(f"embedding has {len(embedding)} rows; give 1 to 2^31 - 1")
        if not 1 <= max_length < 2**24:
            raise ShapeError(f"max_length={max_length} is not between 1 and 2^24 - 1")
        self._vocabulary_size = len(embedding)
        self._logits = output_kernel.shape[1]
        self._native = _kernels.Scorer(
            cell=KINDS.index(kind),
            precision=precision,
            max_length=max_length,
            masked=masked,
            embedding=embedding,
            kernel=weights.kernel,
            recurrent_kernel=weights.recurrent_kernel,
            bias=weights.bias,
            recurrent_bias=weights.recurrent_bias,
            output_kernel=output_kernel,
            output_bias=output_bias,
            memory=memory,
        )

    def score(self, texts: TokenizedTexts) -> Float32:
        """Logits [texts, L]. Raises ShapeError for an id that the embedding does not have."""
        logits = np.empty((len(texts), self._logits), np.float32)
        try:
            self._native.score(texts.token_ids, texts.offsets, logits)
        except IndexError as error:
            raise ShapeError(
                f"{error} is outside the vocabulary, 0..{self._vocabulary_size - 1}"
            ) from None
        return logits
