"""Detectors of secrets and personal data in a text. They need the extra `privacy`.

Secrets are those of `detect-secrets`. Personal data are IBANs, payment cards and national numbers with check digits
(`python-stdnum`), international phone numbers (`phonenumbers`) and e-mail addresses. Names, postal addresses, dates of
birth and national numbers without check digits are not detected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Any

from deltadex.errors import DeltadexError


class StringKind(StrEnum):
    """Kind of a taught string, the most certain first: where two overlap, the first is kept."""

    LISTED = "listed string"
    IBAN = "IBAN"
    CARD = "payment card"
    SECRET = "secret"  # noqa: S105 - a kind of string
    NATIONAL_NUMBER = "national number"
    PHONE = "phone number"
    EMAIL = "e-mail address"


@dataclass(frozen=True)
class Span:
    """A place in a text.

    Attributes
    ----------
    rule
        Name of the rule that matched.
    """

    kind: StringKind
    rule: str
    start: int
    end: int


#: `(module, class)` of the plugins of detect-secrets with a form of their own. Its keywords and its public IP
#: addresses are left out: what they match is no secret more often than not.
_PLUGINS = (
    ("artifactory", "ArtifactoryDetector"), ("aws", "AWSKeyDetector"), ("azure_storage_key", "AzureStorageKeyDetector"),
    ("basic_auth", "BasicAuthDetector"), ("cloudant", "CloudantDetector"), ("discord", "DiscordBotTokenDetector"),
    ("github_token", "GitHubTokenDetector"), ("gitlab_token", "GitLabTokenDetector"),
    ("ibm_cloud_iam", "IbmCloudIamDetector"), ("ibm_cos_hmac", "IbmCosHmacDetector"), ("jwt", "JwtTokenDetector"),
    ("mailchimp", "MailchimpDetector"), ("npm", "NpmDetector"), ("openai", "OpenAIDetector"),
    ("pypi_token", "PypiTokenDetector"), ("sendgrid", "SendGridDetector"), ("slack", "SlackDetector"),
    ("softlayer", "SoftlayerDetector"), ("square_oauth", "SquareOAuthDetector"), ("stripe", "StripeDetector"),
    ("telegram_token", "TelegramBotTokenDetector"), ("twilio", "TwilioKeyDetector"),
)  # fmt: skip
#: Random words of hexadecimal digits or of base64, by the entropy in bits per character that detect-secrets uses.
_ENTROPY = (("HexHighEntropyString", 3.0, r"\b[0-9a-fA-F]{24,}\b"), ("Base64HighEntropyString", 4.5, r"[\w+/=-]{24,}"))
#: `stdnum` modules by the form in which their numbers are written; most forms alone would match any number.
_NATIONAL = {
    "it.codicefiscale": r"\b[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]\b",
    "fr.nir": r"\b[12][ ]?\d{2}[ ]?\d{2}[ ]?\d{2}[ ]?\d{3}[ ]?\d{3}[ ]?\d{2}\b",
    "es.dni": r"\b\d{8}-?[A-Z]\b",
    "es.nie": r"\b[XYZ]-?\d{7}-?[A-Z]\b",
    "fi.hetu": r"\b\d{6}[-+A]\d{3}[0-9A-Y]\b",
    "se.personnummer": r"\b\d{6,8}[-+]\d{4}\b",
    "ch.ssn": r"\b756\.\d{4}\.\d{4}\.\d{2}\b",
    "br.cpf": r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b",
    "be.nn": r"\b\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}\b",
    "pl.pesel": r"\b\d{11}\b",
    "ro.cnp": r"\b\d{13}\b",
    "in_.aadhaar": r"\b\d{4} \d{4} \d{4}\b",
}
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}")
_CARD = re.compile(r"(?<![\d-])[3-6]\d{3}(?:[ -]?\d){9,15}(?![\d-])")
_EMAIL = re.compile(r"\b[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,}\b")


def detect(text: str) -> list[Span]:
    """Return places of secrets and personal data that don't overlap, the most certain kinds first.

    Raises
    ------
    DeltadexError
        The extra `privacy` is not installed.
    """
    found = [Span(kind, rule, *place) for kind, rule, places in _rules() for place in places(text)]
    return disjoint(found)


def disjoint(spans: Sequence[Span]) -> list[Span]:
    """Drop the spans that overlap one of a more certain kind, or a longer one of the same kind."""
    order, kept = list(StringKind), list[Span]()
    for one in sorted(spans, key=lambda span: (order.index(span.kind), span.start - span.end)):
        if not any(one.start < other.end and other.start < one.end for other in kept):
            kept.append(one)
    return kept


def require() -> None:
    """Raise DeltadexError if the extra `privacy` is not installed."""
    _rules()


_Places = Callable[[str], Iterator[tuple[int, int]]]


@cache
def _rules() -> tuple[tuple[StringKind, str, _Places], ...]:
    try:
        secrets = [_secret(*names) for names in _PLUGINS]
        entropy = [_random(*values) for values in _ENTROPY]
        national = [
            (StringKind.NATIONAL_NUMBER, name, _valid(re.compile(form), import_module(f"stdnum.{name}").is_valid))
            for name, form in _NATIONAL.items()
        ]
        iban, luhn = (import_module(f"stdnum.{name}") for name in ("iban", "luhn"))
        phones = import_module("phonenumbers")
    except ImportError as error:
        raise DeltadexError(
            "Secrets and personal data can't be detected: a package is missing",
            hint="Install Deltadex with the extra `privacy`: pip install 'deltadex[privacy]'.",
        ) from error
    return (
        (StringKind.IBAN, "ISO 13616", _shrinking(_IBAN, iban.is_valid)),
        (StringKind.CARD, "Luhn", _valid(_CARD, lambda text: luhn.is_valid(re.sub("[ -]", "", text)))),
        *secrets,
        *entropy,
        *national,
        (StringKind.PHONE, "E.164", lambda text: _phones(phones, text)),
        (StringKind.EMAIL, "address", _valid(_EMAIL, lambda _: True)),
    )


def _secret(module: str, name: str) -> tuple[StringKind, str, _Places]:
    plugin = getattr(import_module(f"detect_secrets.plugins.{module}"), name)()

    def places(text: str) -> Iterator[tuple[int, int]]:
        for found in set(plugin.analyze_string(text)):
            if len(found) >= 8:
                yield from ((match.start(), match.end()) for match in re.finditer(re.escape(found), text))

    return StringKind.SECRET, plugin.secret_type, places


def _random(name: str, limit: float, form: str) -> tuple[StringKind, str, _Places]:
    plugin = getattr(import_module("detect_secrets.plugins.high_entropy_strings"), name)(limit=limit)

    def is_random(word: str) -> bool:
        return bool(re.search(r"\d", word) and plugin.calculate_shannon_entropy(word) > limit)

    return StringKind.SECRET, plugin.secret_type, _valid(re.compile(form), is_random)


def _valid(form: re.Pattern[str], is_valid: Callable[[str], bool]) -> _Places:
    def places(text: str) -> Iterator[tuple[int, int]]:
        return ((match.start(), match.end()) for match in form.finditer(text) if is_valid(match[0]))

    return places


def _shrinking(form: re.Pattern[str], is_valid: Callable[[str], bool]) -> _Places:
    """Return places of the longest valid start of each match: capital letters may follow an IBAN."""

    def places(text: str) -> Iterator[tuple[int, int]]:
        for match in form.finditer(text):
            ends = (end for end in range(len(match[0]), 14, -1) if is_valid(match[0][:end]))
            if end := next(ends, 0):
                yield match.start(), match.start() + len(match[0][:end].rstrip())

    return places


def _phones(phones: Any, text: str) -> Iterator[tuple[int, int]]:
    return ((match.start, match.end) for match in phones.PhoneNumberMatcher(text, None))
