"""Findings about the licences of a base and its finetune. Pure."""

from __future__ import annotations

from collections.abc import Collection

from deltadex.types import Finding, FindingKind


def judge_license(
    version_id: int, base_name: str, *, of_base: str | None, of_finetune: str | None, allowed: Collection[str]
) -> list[Finding]:
    """Return a finding if the base's licence is unknown or not allowed, or if the finetune declares another one.

    Parameters
    ----------
    of_base, of_finetune
        Declared licences in lower case; a finetune without one keeps its base's.
    allowed
        Allowed licences; empty turns the check off.
    """
    if not allowed:
        return []
    if of_base is None:
        reason = f"the licence of the base {base_name} is unknown: its card names none"
    elif of_base not in {one.lower() for one in allowed}:
        reason = f"the licence of the base {base_name} is {of_base}, which is not one of those allowed"
    elif of_finetune not in (None, of_base):
        reason = f"the base {base_name} is under {of_base}, the finetune says {of_finetune}"
    else:
        return []
    evidence = {"reason": reason, "base": base_name, "license_of_base": of_base, "license": of_finetune}
    return [Finding(FindingKind.LICENSE, version_id, evidence=evidence)]
