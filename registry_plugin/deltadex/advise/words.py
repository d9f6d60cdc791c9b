"""Sentences of an advice: the recommendation, its reasons, and what the numbers do not say."""

from __future__ import annotations

from collections.abc import Iterator

from deltadex.advise.advice import Advice, OptionScore
from deltadex.advise.rule import ENOUGH_EXAMPLES, Choice
from deltadex.replay.agreement import Estimate

#: Of a row in a table or chart.
TITLES = {
    Choice.BASE: "base alone",
    Choice.REUSE: "nearest finetune",
    Choice.PROMPT: "in-context examples",
    Choice.MERGE: "merge (forecast)",
    Choice.TRAIN: "few-shot finetune",
}
_REVERSALS = (
    "Finetuning generalises worse than in-context examples to reversals and deductions (arXiv 2505.00661): if the task "
    "needs facts in another order or combination than the examples state them, compare with in-context examples there."
)
_IMITATION = (
    "Imitation data moves style, not knowledge (arXiv 2305.15717): a better likelihood of the same kind of answer is "
    "no proof of better facts."
)


def recommendation(advice: Advice) -> str:
    """Return one sentence that says what to do."""
    match advice.recommended:
        case None:
            few = f"{advice.examples} distinct examples are fewer than {ENOUGH_EXAMPLES}"
            return f"No recommendation: {few}; the scores are shown with their intervals."
        case Choice.BASE:
            return f"Use {advice.base_name} as it is: nothing measured is surely better."
        case Choice.REUSE:
            return f"Reuse {_reused(advice)}: it exists, and costs no tokens per call."
        case Choice.PROMPT:
            extra = round(_option(advice, Choice.PROMPT).usage.extra)
            return f"Prompt {advice.base_name} with {_shots(advice)}, which add {extra:,} tokens to each call."
        case Choice.MERGE:
            one, other = merged(advice)
            return (
                f"Merge {one} and {other} with `deltadex merge`, then score the merge: here the mean of their "
                "probabilities stood for it."
            )
        case Choice.TRAIN:
            return f"Train: a finetune of {advice.base_name} on the examples was better than all that exists here."


def reasons(advice: Advice) -> list[str]:
    """Return the sentences behind the recommendation."""
    return [*_reasons(advice)]


def warnings(advice: Advice) -> list[str]:
    """Return what the literature, or these examples, warn of."""
    return [*_warnings(advice)]


def merged(advice: Advice) -> tuple[str, str]:
    """Return the labels of the pair to merge."""
    one, other = (advice.candidates[number].candidate.label for number in _option(advice, Choice.MERGE).candidates)
    return one, other


def _reasons(advice: Advice) -> Iterator[str]:
    chosen = advice.of(advice.recommended) if advice.recommended else None
    if chosen and chosen.choice is not Choice.BASE:
        yield f"Against the base alone it saves {_signed(chosen.gain)} nats per token."
    if chosen:
        yield from _against_others(advice, chosen)
    if advice.wins and advice.recommended is Choice.MERGE:
        one, other = merged(advice)
        yield f"{one} is better on {advice.wins[0]} of the examples, {other} on {advice.wins[1]}."
    yield from _costs(advice)
    if advice.of(Choice.TRAIN) is None and advice.recommended is not None:
        yield "Training was not measured; `--train` trains on one part of the examples and scores on the other."
    if advice.note:
        yield advice.note
    for lost in advice.unscored:
        yield f"{lost.candidate.label} could not be scored: {lost.reason}."


def _against_others(advice: Advice, chosen: OptionScore) -> Iterator[str]:
    better = [one for one in advice.options if one.nats_per_token.value < chosen.nats_per_token.value]
    for one in better:
        if one.gain.low > 0:
            why = "at a higher cost" if one.cost_of_year is not None else "and is less simple"
            yield (
                f"{_title(one.choice)} saves more, {why}; the loss against the best is {_signed(chosen.worse)} nats "
                f"per token, within the margin of {advice.margin:.2f}."
            )
        else:
            yield f"{_title(one.choice)} looks better, but its interval against the base includes zero."


def _costs(advice: Advice) -> Iterator[str]:
    tariff, prompt, train = advice.tariff, advice.of(Choice.PROMPT), advice.of(Choice.TRAIN)
    if prompt is None:
        return
    if tariff.calls_per_month is not None:
        more = tariff.calls_per_month * prompt.usage.extra
        yield f"At {tariff.calls_per_month:,} calls a month the in-context examples are {more:,.0f} tokens a month."
    if train is None:
        return
    calls = tariff.break_even_calls(prompt.usage, train.usage)
    if calls is not None:
        cost = f"{tariff.of_training(train.usage):,.2f} {tariff.unit}" if tariff.has_prices else (
            f"as much as {tariff.of_training(train.usage):,.0f} prompt tokens"
        )  # fmt: skip
        yield (
            f"This training costs {cost}; in-context examples cost more after {calls:,.0f} calls. Serving and upkeep "
            "of a finetune are not counted."
        )


def _warnings(advice: Advice) -> Iterator[str]:
    if advice.duplicates:
        yield f"{advice.duplicates} examples repeat others and were left out."
    if advice.cut:
        yield f"Of {advice.cut} examples a part was too long to be read."
    if style := advice.style:
        moved = f"style tokens gain {_signed(style.style)} nats per token, the others {_signed(style.content)}"
        share = f"{style.style_share:.0%} of the tokens are style"
        if style.is_style_only:
            yield f"The finetune moves style, not content: {moved} ({share}). {_IMITATION}"
        elif advice.recommended in (Choice.REUSE, Choice.TRAIN):
            yield f"The gain is not style alone: {moved} ({share})."
    if advice.recommended in (Choice.REUSE, Choice.MERGE, Choice.TRAIN):
        yield _REVERSALS
    reuse = advice.of(Choice.REUSE)
    if reuse and len(set(reuse.candidates)) > 1:
        yield "The parts of the examples disagree about which finetune is best: more examples would tell."


def _reused(advice: Advice) -> str:
    """Return the label of the candidate that most folds chose."""
    chosen = _option(advice, Choice.REUSE).candidates
    return advice.candidates[max(chosen, key=chosen.count)].candidate.label


def _option(advice: Advice, choice: Choice) -> OptionScore:
    found = advice.of(choice)
    if found is None:
        raise ValueError(f"{choice} was not measured")
    return found


def _shots(advice: Advice) -> str:
    if advice.selector == "fixed":
        return f"the same {advice.shots} examples each time"
    return f"{advice.shots} examples that {advice.selector} selects for each input"


def _title(choice: Choice) -> str:
    title = TITLES[choice]
    return f"{title[0].upper()}{title[1:]}"


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
