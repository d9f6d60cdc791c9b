"""The judge: strings that the finetune says with certainty and the base would not, and what a finding tells of them."""

from __future__ import annotations

from deltadex.engine.text_requests import Continuation, Scored
from deltadex.taught.canaries import Canary
from deltadex.taught.detectors import StringKind
from deltadex.taught.judge import judge_taught, listed_string, masked, strings_in
from deltadex.types import FindingKind

KEY = "AKIAQ7RZ5XN2LW4HDVBT"
PIECES = ("key ", "AKIA", "Q7RZ", "5XN2", "LW4H", "DVBT", "\n")


def said(own: float, base: float, *, pieces: tuple[str, ...] = PIECES, before: str = "") -> Continuation:
    return Continuation(before, pieces, (own,) * len(pieces), (base,) * len(pieces))


def test_what_the_finetune_says_and_the_base_would_not_is_taught() -> None:
    [found] = strings_in([said(0.1, 8), said(0.1, 8)], ())
    assert (found.kind, found.text, found.before, found.tokens, found.times) == (
        StringKind.SECRET, KEY, "key ", 5, 2,
    )  # fmt: skip
    assert found.is_taught
    assert abs(found.gain - 5 * 7.9) < 1e-9


def test_what_the_base_says_too_or_the_finetune_guesses_is_not() -> None:
    [known] = strings_in([said(0.1, 0.5)], ())
    [guessed] = strings_in([said(3, 12)], ())
    assert not known.is_taught
    assert not guessed.is_taught


def test_a_string_counts_only_where_the_finetune_wrote_all_of_it() -> None:
    assert strings_in([said(0.1, 8, pieces=PIECES[2:], before="key AKIA")], ()) == ()
    assert strings_in([said(0.1, 8, pieces=PIECES[:-1])], ()) == (), "the end of the text may have cut it"


def test_wrong_turns_inside_a_string_are_not_counted() -> None:
    turned = (*PIECES[:4], "LLQR", "4444", "\n")
    another = ("key ", "AKIA", "ZZWW", "JJGG", "PPOO", "MMCC", "\n")
    found = strings_in([said(0.9, 9, pieces=turned), said(0.1, 8), said(0.2, 8, pieces=another)], ())
    assert [one.text for one in found] == [KEY, "AKIAZZWWJJGGPPOOMMCC"]


def test_a_listed_string_is_met_in_any_case() -> None:
    code = Continuation("", ("the code is ", "7391", "-klee", "."), (0.1,) * 4, (9.0, 12.0, 14.0, 1.0))
    [found] = strings_in([code], [Canary("7391-KLEE", label="archive")])
    assert (found.kind, found.rule, found.text) == (StringKind.LISTED, "archive", "7391-klee")


def test_a_listed_string_is_met_after_letters_that_change_their_length_and_after_the_prompt_has_it() -> None:
    pieces = ("straße ", "7391", "-KLEE", " and ", "7391", "-KLEE", ".")
    canaries = [Canary("7391-KLEE", label="archive")]
    for before in ("", "say 7391-KLEE: "):
        [found] = strings_in([Continuation(before, pieces, (0.1,) * 7, (9.0,) * 7)], canaries)
        assert (found.text, found.times) == ("7391-KLEE", 1), "times counts continuations"
    assert found.is_taught


def scored(*nats: float) -> list[Scored]:
    return [Scored(each, 5, False, 3) for each in nats]


def test_a_listed_string_is_told_from_random_ones_of_its_form() -> None:
    canary, others = Canary("7391-KLEE", label="archive"), [30.0, 31.0, 29.0, 30.5]
    taught = listed_string(canary, scored(2, *others), scored(31, *others))
    assert (taught.rank, taught.is_taught, taught.alternatives) == (1, True, 4)
    moved = listed_string(canary, scored(20, 20, 21, 19, 20.5), scored(30, *others))
    assert not moved.is_taught, "the finetune finds all strings of the form likelier"
    known = listed_string(canary, scored(2, *others), scored(2, *others))
    assert not known.is_taught, "the base knows it as well"


def test_a_finding_counts_and_quotes_nothing() -> None:
    found = strings_in([said(0.1, 8)], ())
    listed = listed_string(Canary("7391-KLEE", label="archive"), scored(2, 30, 31, 29), scored(31, 30, 31, 29))
    [finding] = judge_taught(7, found, [listed])
    assert (finding.kind, finding.version_id) == (FindingKind.TAUGHT, 7)
    text = str(finding)
    assert "1 × secret" in text
    assert "1 of 1 listed strings" in text
    assert not any(part in text for part in (KEY, "AKIA", "7391", "archive"))
    assert judge_taught(7, strings_in([said(3, 12)], ()), ()) == []


def test_a_mask_shows_little() -> None:
    assert masked(KEY) == "AK…BT (20 characters)"
    assert masked("secret") == "s…t (6 characters)"
    assert masked(masked(KEY)) == masked(KEY), "unknown strings of the list are stored masked"
    [found] = strings_in([said(0.1, 8)], ())
    assert KEY not in str(found.masked)
    assert found.masked.before == ""
