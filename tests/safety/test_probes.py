"""The prompts of the safety measurement: enough pairs, two halves, no prompt in both."""

from __future__ import annotations

from dataclasses import replace

from deltadex.safety.probes import safety_probes


def test_there_are_enough_pairs_and_each_learns_or_measures() -> None:
    probes = safety_probes()
    assert len(probes.learning) + len(probes.measuring) >= 64
    learned, measured = ({text for one in part for text in (one.harmful, one.harmless)} for part in
                         (probes.learning, probes.measuring))  # fmt: skip
    assert len(learned | measured) == 2 * (len(probes.learning) + len(probes.measuring)), "no prompt twice"
    assert set(probes.of_all) == measured
    assert learned < set(probes.of_base)


def test_pairs_are_matched_by_topic_and_length() -> None:
    """So that neither a topic nor a length tells harmful from harmless ones."""
    probes = safety_probes()
    pairs = (*probes.learning, *probes.measuring)
    for one in pairs:
        assert set(one.harmful.lower().split()) & set(one.harmless.lower().split()), one
    lengths = [len(one.harmful) - len(one.harmless) for one in pairs]
    assert abs(sum(lengths) / len(lengths)) < 4


def test_both_halves_of_a_trait_have_all_its_instructions() -> None:
    for one in safety_probes().traits:
        assert len(one.toward) == len(one.away) >= 8
        for side in (one.toward, one.away):
            of_halves = [{prompt.split("\n\n")[0] for prompt in side[start::2]} for start in (0, 1)]
            assert of_halves[0] == of_halves[1]


def test_other_prompts_have_another_digest() -> None:
    probes = safety_probes()
    assert replace(probes, measuring=probes.measuring[1:]).digest != probes.digest
    assert replace(probes, traits=probes.traits[1:]).digest != probes.digest
