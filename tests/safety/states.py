"""States with a planted direction, as the engine would read them."""

from __future__ import annotations

import numpy as np

from deltadex.safety.measure import SafetyBase, SafetyReading, SafetyStates, base_of, read
from deltadex.safety.probes import safety_probes

PROBES = safety_probes()
SIZE = 24
DIRECTION, *TRAITS = np.linalg.qr(np.random.default_rng(9).normal(size=(SIZE, 4)))[0].T.astype(np.float32)


def of_base(*, separation: float = 6.0, refusal: float = 6.0, trait: float = 8.0, seed: int = 0) -> SafetyStates:
    """States of a base for all its prompts: harmful ones lie further along `DIRECTION`, and are refused."""
    draw = np.random.default_rng(seed)
    measured, learned = len(PROBES.measuring), len(PROBES.learning)
    harmful = np.repeat([True, False, True, False], [measured, measured, learned, learned])
    rows = [separation * DIRECTION * harmful[:, None]]
    odds = [refusal * harmful]
    for number, one in enumerate(PROBES.traits):
        toward = np.repeat([True, False], len(one.toward))
        rows.append(trait * TRAITS[number] * toward[:, None])
        odds.append(np.zeros(len(toward)))
    states = np.concatenate(rows)
    states = states + draw.normal(size=states.shape)
    flat = np.concatenate(odds)
    return SafetyStates(states.astype(np.float32), (flat + draw.normal(size=len(flat))).astype(np.float32))


def of_finetune(*, separation: float = 6.0, refusal: float = 6.0, shift: float = 0.0, seed: int = 1) -> SafetyStates:
    """States of a finetune for the measuring prompts, all of them shifted along the first trait."""
    whole, count = of_base(separation=separation, refusal=refusal, seed=seed), len(PROBES.of_all)
    return SafetyStates(whole.states[:count] + shift * TRAITS[0], whole.odds[:count])


def base(**values: float) -> SafetyBase:
    """A base that was read."""
    return base_of(of_base(**values), PROBES)


def reading(own: SafetyBase, **values: float) -> SafetyReading:
    """A finetune of it that was read."""
    return read(of_finetune(**values), own)
