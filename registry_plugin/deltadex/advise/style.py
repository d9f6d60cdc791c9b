"""Gain on style and on content: imitation data moves style, not knowledge (arXiv 2305.15717).

A token is *style* if most answers could hold it: it has no letter or digit (punctuation, blanks, formatting), it is an
English function word, or it stands in at least a third of the completions. All others are *content*. Like the
unshifted tokens of arXiv 2312.01552, style tokens are those that say how the answers of a task look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from deltadex.engine.text_requests import Scored
from deltadex.replay.agreement import Estimate, bootstrap

#: Share of the completions from which a token counts as style.
_COMMON = 1 / 3
#: With fewer examples that have both kinds of tokens nothing is said.
_FEWEST = 10


@dataclass(frozen=True)
class StyleGain:
    """Gain over the base (nats per token), on style and on content tokens of the same examples.

    Attributes
    ----------
    style_share
        Share of tokens that are style.
    """

    style: Estimate
    content: Estimate
    style_share: float
    examples: int

    @property
    def is_style_only(self) -> bool:
        """True if style tokens surely gain, and content tokens do not."""
        return self.style.low > 0 and self.content.low <= 0


def style_tokens(texts: Sequence[Sequence[str]]) -> list[list[bool]]:
    """Return for each token of each completion whether it is style."""
    plain = [[_plain(token) for token in each] for each in texts]
    holding = Counter(token for each in plain for token in set(each))
    common = {token for token, count in holding.items() if count >= max(2, _COMMON * len(texts))}
    return [[_is_form(token) or token in common for token in each] for each in plain]


def style_gain(base: Sequence[Scored], other: Sequence[Scored]) -> StyleGain | None:
    """Return the gains of a model over the base; None if they read other tokens, or if too few examples have both.

    Parameters
    ----------
    base, other
        Scores of the same examples.
    """
    if any(one.token_texts != two.token_texts for one, two in zip(base, other, strict=True)):
        return None
    masks = [np.array(each, dtype=bool) for each in style_tokens([one.token_texts for one in base])]
    kept = [number for number, mask in enumerate(masks) if mask.any() and not mask.all()]
    if len(kept) < _FEWEST:
        return None
    gains = [np.array(base[number].token_nats) - np.array(other[number].token_nats) for number in kept]
    style = np.array([gain[masks[number]].mean() for number, gain in zip(kept, gains, strict=True)])
    content = np.array([gain[~masks[number]].mean() for number, gain in zip(kept, gains, strict=True)])
    share = float(np.concatenate([masks[number] for number in kept]).mean())
    return StyleGain(bootstrap(style), bootstrap(content), share, len(kept))


def _plain(token: str) -> str:
    return token.strip().casefold()


def _is_form(token: str) -> bool:
    return not any(character.isalnum() for character in token) or token in _function_words()


@cache
def _function_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # takes time to import, and pages only read results

    return frozenset(ENGLISH_STOP_WORDS)
