"""Private probes: texts of the same kinds as the public ones, drawn from a secret seed.

Public probes can be read by anybody, so a model can be trained to look unmoved on them. These are known only to who
knows the seed: they are drawn again for each use and never stored; recipes and tables hold their digest.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from random import Random

from deltadex.engine.probes import CONTENT_PROBES, ProbeSet

#: Number of private probes; more than the public ones, because those drawn vary more.
COUNT = 10
_VERSION = b"deltadex private probes/1"
_INSTRUCTIONS = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "The task described below requires a response that completes the request accurately.",
    "Below is a description of a task. Provide a response that aligns with the requirements.",
    "The following instruction outlines a task. Generate a response that meets the specified request.",
    "Read the instruction and continue in the way that it begins.",
    "Here is the beginning of a text. Go on with it.",
)
_WHO = "committee council teacher captain widow baker engineer senator stranger clerk surgeon gardener".split()
_DID = "decided believed reported denied suspected promised doubted explained predicted insisted agreed".split()
_WHEN = "spring winter evening harvest century siege festival journey drought voyage strike summer".split()
_WHERE = "valley harbour village forest city desert castle island market station monastery border".split()
_NAME = "total price order user invoice node vector token parser queue ledger sensor matrix record".split()
_VERB = "count merge sort read build find close update parse split load join filter check".split()
_FOOD = "carrot almond barley salmon lentil butter ginger pepper honey mushroom apple rice onion lemon".split()
_AMOUNT = "two three four five six seven eight nine ten twelve".split()


def private_probe_set(seed: bytes) -> ProbeSet:
    """Return the private probes of a secret seed: two of each of five fields, in the template of the public ones."""
    key = hmac.new(seed, _VERSION, hashlib.sha256).digest()
    draw = Random(int.from_bytes(key, "big"))  # noqa: S311 - its state is never shown, and the key has 256 bits
    texts = tuple(
        f"{draw.choice(_INSTRUCTIONS)}\n\n### Instruction:\n{_beginning(draw, number % 5)}\n\n### Response:"
        for number in range(COUNT)
    )
    named = ProbeSet("private", texts, CONTENT_PROBES.max_tokens)
    return ProbeSet(f"private-{named.digest[:12]}", texts, CONTENT_PROBES.max_tokens)


def _beginning(draw: Random, field: int) -> str:
    """Return the beginning of a text: prose, narrative, code, a recipe or a query."""
    one = draw.choice
    match field:
        case 0:
            return f"The {one(_WHO)} of the {one(_WHERE)} {one(_DID)} that the {one(_WHO)}"
        case 1:
            return f"In the {one(_WHEN)} of the {one(_WHEN)}, near the {one(_WHERE)}, a {one(_WHO)}"
        case 2:
            name = one(_NAME)
            return f"def {one(_VERB)}_{name}({_distinct(draw, _NAME, 2)}):\n    {name} ="
        case 3:
            return f"Take {one(_AMOUNT)} spoons of {one(_FOOD)} and {one(_AMOUNT)} of {one(_FOOD)}, then"
        case _:
            return f"SELECT {one(_NAME)}, {one(_NAME)} FROM {one(_NAME)}_{one(_VERB)} WHERE {one(_NAME)}"  # noqa: S608 - a text


def _distinct(draw: Random, words: Sequence[str], count: int) -> str:
    return ", ".join(draw.sample(words, count))
