"""Findings about models that could be served as an adapter."""

from __future__ import annotations

from deltadex.checkpoints.low_rank import LowRank
from deltadex.findings.adapter import judge_servable
from deltadex.types import FindingKind


def test_a_model_that_an_adapter_can_hold_is_a_finding_with_rank_sizes_and_error() -> None:
    assert judge_servable(3, None) == []
    [found] = judge_servable(3, LowRank(16, 1_843_200, 269_030_016, 0.0886, 0.0916, sampled=8, matrices=60))
    assert (found.kind, found.version_id, found.measure) == (FindingKind.SERVABLE_AS_ADAPTER, 3, None)
    assert found.evidence["reason"] == (
        "an adapter of rank 16 holds its difference from the base: 1.8 MB instead of 269.0 MB, relative error 0.089 "
        "(0.092 by rounding alone), estimated from 8 of 60 matrices"
    )
    assert found.evidence["rank"] == 16
