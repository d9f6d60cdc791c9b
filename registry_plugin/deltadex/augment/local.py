"""Local augmentation: each example by itself, by rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deltadex.augment.augmented import Augmentation, Augmented, Drop
from deltadex.augment.filtering import Sieve
from deltadex.augment.rules import REWRITINGS
from deltadex.engine.examples import MAX_EXAMPLES, Example

#: Augmented examples of one example; more would leave few steps for the example itself.
AT_MOST_EACH = 4


def augment_locally(
    given: Sequence[Example], *, held_out: Sequence[Example] = (), at_most_each: int = AT_MOST_EACH
) -> Augmentation:
    """Rephrase and reverse each example by the rules that apply to it.

    Parameters
    ----------
    held_out
        Examples that a score is measured on; nothing like them is made.
    at_most_each
        Augmented examples of one example. All examples together stay within what a search reads.
    """
    sieve = Sieve(given, held_out)
    offer(sieve, given, at_most_each)
    return augmentation_of(sieve)


def offer(sieve: Sieve, given: Sequence[Example], at_most_each: int) -> None:
    """Offer the candidates of the rules, by turns: where the limit ends it, every example has about as many."""
    room = MAX_EXAMPLES - len(given)
    waiting = {place: _candidates(place, example) for place, example in enumerate(given)}
    for _ in range(at_most_each):
        for place in list(waiting):
            if len(sieve.kept) >= room or not any(map(sieve.offer, waiting[place])):
                del waiting[place]


def augmentation_of(sieve: Sieve) -> Augmentation:
    """Return what a sieve has kept and dropped."""
    return Augmentation(tuple(sieve.given), tuple(sieve.kept), {reason: sieve.dropped[reason] for reason in Drop})


def _candidates(place: int, example: Example) -> Iterator[Augmented]:
    """Yield the candidates of an example: the first of each rule, in the rules' order, then the others."""
    others: list[Augmented] = []
    for rule in REWRITINGS:
        made = [Augmented(one, rule.origin, (place,), rule.name) for one in rule.candidates(example)]
        yield from made[:1]
        others += made[1:]
    yield from others
