"""Whether a finetune's base may be used, and is still under the licence that it came with. Pure."""

from __future__ import annotations

from collections.abc import Collection

from deltadex.domain import Finding, FindingKind


def judge_license(
    version_id: int, base_name: str, *, of_base: str | None, of_finetune: str | None, allowed: Collection[str]
) -> list[Finding]:
    """Return a finding where the base's licence is unknown, is none of those allowed, or the finetune changes it.

    Parameters
    ----------
    of_base, of_finetune
        As declared, in lower case; a finetune that declares none keeps its base's.
    allowed
        Empty: nothing is checked.
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
