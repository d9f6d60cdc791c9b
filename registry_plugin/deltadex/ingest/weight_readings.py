"""Results of the pass over a finetune's weights, which both ways of embedding store: alone and in a shard."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.checkpoints.low_rank import LowRank
from deltadex.checkpoints.merge_check import Imprint
from deltadex.checkpoints.sketch import Sketch


@dataclass(frozen=True, eq=False)
class WeightReadings:
    """Readings that later comparisons need; None where the weights give nothing of the kind."""

    imprint: Imprint | None = None
    low_rank: LowRank | None = None
    sketch: Sketch | None = None
