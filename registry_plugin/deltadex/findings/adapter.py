"""Findings about full models that could be served as an adapter of their base. Pure."""

from __future__ import annotations

from dataclasses import asdict

from deltadex.checkpoints.low_rank import LowRank
from deltadex.types import Finding, FindingKind


def judge_servable(version_id: int, found: LowRank | None) -> list[Finding]:
    """Return a finding if a full model differs from its base by no more than an adapter holds."""
    if found is None:
        return []
    reason = (
        f"an adapter of rank {found.rank} holds its difference from the base: {found.adapter_bytes / 1e6:,.1f} MB "
        f"instead of {found.checkpoint_bytes / 1e6:,.1f} MB, relative error {found.error:.2g} "
        f"({found.rounding:.2g} by rounding alone), estimated from {found.sampled} of {found.matrices} matrices"
    )
    return [Finding(FindingKind.SERVABLE_AS_ADAPTER, version_id, evidence={"reason": reason, **asdict(found)})]
