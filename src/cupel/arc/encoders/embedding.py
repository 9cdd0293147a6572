"""embedding: TRM's learned vector a puzzle, the baseline that reads no demonstration.

Knows a table and the rows asked for. Refuses a puzzle it has no row for: there is no default row.
"""

from __future__ import annotations

import math

from torch import Tensor

from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.encoders.contract import Body, Demos, Encoder, Extras
from cupel.arc.encoders.layers import Form
from cupel.errors import ConfigError, DataError


class EmbeddingEncoder(Encoder):
    """Look up √D · table[puzzle]; TRM wrote one position and left the other 15 zero.

    Departure from TRM: the table starts as a truncated normal of standard deviation 1/√D and is
    trained by the run's optimizer, not from zeros by sign descent.
    """

    def __init__(
        self, config: EncoderConfig, form: Form, *, hidden_size: int, n_context: int, vocab: int
    ) -> None:
        super().__init__(config, form, hidden_size=hidden_size, n_context=n_context)
        if config.num_puzzles == 0:
            raise ConfigError(
                "encoder.num_puzzles = 0: the embedding kind needs the number of puzzles; set it "
                "to the number of training puzzles"
            )
        shape = (config.num_puzzles, self.written * form.width)
        self.table = form.learned(*shape, std=1 / math.sqrt(form.width))

    def body(self, demos: Demos, extras: Extras) -> Body:
        """Return the rows of the slots' puzzles, [B, C', W]. Reads the ids back from the device."""
        ids = extras.puzzle_ids
        if ids is None or tuple(ids.shape) != (demos.n_slots,):
            given = "none" if ids is None else str(tuple(ids.shape))
            raise ConfigError(
                f"encoder: the embedding kind needs puzzle_ids [{demos.n_slots}]; given {given}"
            )
        _refuse_unknown(ids, self.config.num_puzzles)
        rows = self.table.index_select(0, ids.long()) * math.sqrt(self.form.width)
        context = rows.reshape(demos.n_slots, self.written, -1)
        return Body(context=context.to(self.form.dtype))


def _refuse_unknown(ids_B: Tensor, rows: int) -> None:
    unknown = ids_B[(ids_B < 0) | (ids_B >= rows)]
    if unknown.numel():
        raise DataError(
            f"encoder: puzzle id {int(unknown[0])} has no row in the table of {rows}; the "
            "embedding kind knows training puzzles only: evaluate on them, or use a kind that "
            "reads demonstrations"
        )
