"""Costs of an option: tokens of a call, of training, and of a year at a stated volume."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.setting_groups import CostSettings

_MONTHS = 12
#: A training token is read forward and backward, which takes about three times the arithmetic of a prompt token
#: (arXiv 2001.08361, section 2.1).
_PROMPT_TOKENS_PER_TRAINING_TOKEN = 3


@dataclass(frozen=True)
class Usage:
    """Tokens of an option.

    Attributes
    ----------
    per_call
        Mean tokens before an answer, in-context examples included.
    extra
        Of these, the tokens that the base alone would not read.
    training
        Tokens that are read once, in training.
    """

    per_call: float
    extra: float = 0.0
    training: int = 0


@dataclass(frozen=True)
class Tariff:
    """Prices of tokens; without both of them costs are in prompt tokens.

    Attributes
    ----------
    prompt, training
        Price of a million tokens.
    calls_per_month
        Stated volume; None if there is none.
    """

    prompt: float | None = None
    training: float | None = None
    currency: str = ""
    calls_per_month: int | None = None

    @classmethod
    def of(cls, costs: CostSettings, calls_per_month: int | None, *, training_rate: float | None = None) -> Tariff:
        """Return the prices of the settings.

        Parameters
        ----------
        training_rate
            Measured training tokens per hour, by which the price of a GPU's hour becomes one of tokens.
        """
        training = costs.million_training_tokens
        if training is None and costs.gpu_hour is not None and training_rate:
            training = costs.gpu_hour * 1e6 / training_rate
        return cls(costs.million_prompt_tokens, training, costs.currency, calls_per_month)

    @property
    def has_prices(self) -> bool:
        """True if costs are money."""
        return self.prompt is not None and self.training is not None

    @property
    def unit(self) -> str:
        """Unit of `of_call`, `of_training` and `of_year`."""
        return self.currency if self.has_prices else "prompt tokens"

    def of_call(self, usage: Usage) -> float:
        """Return the cost of what is read before one answer."""
        return usage.per_call * self._prompt_price

    def of_training(self, usage: Usage) -> float:
        """Return the cost of training once."""
        if self.has_prices:
            return usage.training * (self.training or 0.0) / 1e6
        return float(usage.training * _PROMPT_TOKENS_PER_TRAINING_TOKEN)

    def of_year(self, usage: Usage) -> float | None:
        """Return the cost of a year; None without a stated volume."""
        if self.calls_per_month is None:
            return None
        return self.calls_per_month * _MONTHS * self.of_call(usage) + self.of_training(usage)

    def break_even_calls(self, prompted: Usage, trained: Usage) -> float | None:
        """Return the number of calls after which in-context examples cost more than training; None if they never do."""
        more = (prompted.per_call - trained.per_call) * self._prompt_price
        return self.of_training(trained) / more if more > 0 else None

    @property
    def _prompt_price(self) -> float:
        return (self.prompt or 0.0) / 1e6 if self.has_prices else 1.0
