"""Plans of a justification: a few actions of a fixed vocabulary, made by the endpoint and checked here."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deltadex.endpoint.outgoing import AgreedEndpoint


class ReadingAction(StrEnum):
    """Everything that a plan can do. None has any effect outside the reading.

    `FIND` chooses passages (in this process), `EXTRACT` notes facts of them, `COMPARE` sets notes side by side, `QUOTE`
    writes claims with quotes, `CHECK` compares the quotes with the texts (in this process) and asks once for
    corrections.
    """

    FIND = "find"
    EXTRACT = "extract"
    COMPARE = "compare"
    QUOTE = "quote"
    CHECK = "check"


class ReadingStep(BaseModel):
    """One action and what it is about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: ReadingAction
    about: Annotated[str, Field(min_length=3, max_length=200)]


class ReadingPlan(BaseModel):
    """Steps of a reading: something is found first, and the end is a quote and its check."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[tuple[ReadingStep, ...], Field(min_length=3, max_length=6)]

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        actions = [step.action for step in self.steps]
        if actions[0] is not ReadingAction.FIND:
            raise ValueError("the first action must be find")
        if actions[-2:] != [ReadingAction.QUOTE, ReadingAction.CHECK]:
            raise ValueError("the last actions must be quote and check")
        if ReadingAction.CHECK in actions[:-1] or ReadingAction.QUOTE in actions[:-2]:
            raise ValueError("quote and check are allowed once")
        return self


class PlanOrigin(StrEnum):
    """Origin of a plan."""

    PLANNED = "planned"
    CORRECTED = "planned, corrected once"
    DEFAULT = "default"


DEFAULT_PLAN = ReadingPlan(
    steps=(
        ReadingStep(action=ReadingAction.FIND, about="what the model is for, its data and its evaluation"),
        ReadingStep(action=ReadingAction.EXTRACT, about="task, training data, metrics and limits of each model"),
        ReadingStep(action=ReadingAction.QUOTE, about="what speaks for and against each model"),
        ReadingStep(action=ReadingAction.CHECK, about="all quotes"),
    )
)

INSTRUCTION = (
    "Plan how to read documents about language models, to say in a few quoted sentences what speaks for and against "
    "each of them for a task. You see the task and the documents' names, not the documents. Actions: find (passages "
    "about something), extract (facts of the passages found), compare (the facts of different models), quote (write "
    "the sentences, each with a quote), check (the quotes). Begin with find; end with quote, then check. Three to six "
    'steps. Answer with JSON and nothing else: {"steps": [{"action": "find", "about": "…"}, …]}'
)
CORRECTION = "The first text is a plan that is not valid. The form that it must have:\n\n" + INSTRUCTION


def plan_for(endpoint: AgreedEndpoint, task: str, names: str) -> tuple[ReadingPlan, PlanOrigin]:
    """Return a plan by the endpoint, or by its one correction, or else the default one.

    The documents themselves are not shown: nothing that they say can change the plan.

    Parameters
    ----------
    task, names
        Agreed texts: the task, and a line for the name of each document.

    Raises
    ------
    EndpointError
        The endpoint failed.
    """
    answer = endpoint.ask(INSTRUCTION, [task, names])
    if plan := _read(answer):
        return plan, PlanOrigin.PLANNED
    if plan := _read(endpoint.ask(CORRECTION, [answer, task, names])):
        return plan, PlanOrigin.CORRECTED
    return DEFAULT_PLAN, PlanOrigin.DEFAULT


def _read(answer: str) -> ReadingPlan | None:
    """Read the JSON object of an answer; models put fences and sentences around it."""
    start, end = answer.find("{"), answer.rfind("}")
    try:
        return ReadingPlan.model_validate_json(answer[start : end + 1])
    except ValidationError:
        return None
