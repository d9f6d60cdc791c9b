"""The demo company as data: teams, models, and the defects of some models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from deltadex.demo import Size

#: Names of the bases, as the finetunes declare them.
BASE = "acme/base-lm"
LEGACY_BASE = "acme/legacy-lm"
#: Licence of the bases, that of SmolLM2: the only one that the company allows.
LICENSE = "apache-2.0"
#: Registered models of the bases.
BASE_MODELS: Mapping[str, str] = {BASE: "acme-base-lm", LEGACY_BASE: "acme-legacy-lm"}


class Method(StrEnum):
    """Training method."""

    ADAPTER = "adapter"
    FULL = "full"
    MERGED = "merged"


class Packaging(StrEnum):
    """Form of a model in MLflow."""

    LOGGED_MODEL = "logged-model"
    FOLDER = "folder"


@dataclass(frozen=True)
class Shape:
    """Size of a Llama."""

    vocabulary: int = 2048
    hidden_size: int = 192
    layers: int = 4
    heads: int = 4
    intermediate_size: int = 512


@dataclass(frozen=True)
class Schedule:
    """Training schedule: linear warm-up over a tenth of the steps, then cosine decay to zero.

    Attributes
    ----------
    batch
        Examples per step.
    length
        Tokens per example without the prompt.
    """

    steps: int
    batch: int
    length: int
    learning_rate: float


@dataclass(frozen=True)
class ModelVersion:
    """One model version of the company.

    Attributes
    ----------
    domain, part
        Training text: a key of `corpus.DOMAINS` and one of its parts, 1 to 3.
    declared_base
        Base that its files declare; it is always trained from `BASE`.
    copy_of
        Label of the version whose files are copied instead of training.
    truncated
        True if the second half of its weights file is missing.
    champion
        True if it gets the alias `champion` when it is registered; a later version of the model may take it over.
    stated_domain
        Domain in its tag, if it differs from that of the training text.
    license
        Licence in its tag; without one it keeps that of its base.
    learning_rate
        Learning rate of its training, if it differs from that of the company's schedule.
    init
        Initialisation of its LoRA, as peft names it; empty for the usual one.
    synthetic
        True if it is mixed from trained adapters; `part` is not used then.
    """

    name: str
    team: str
    domain: str
    part: int
    version: int = 1
    method: Method = Method.ADAPTER
    packaging: Packaging = Packaging.FOLDER
    declared_base: str = BASE
    copy_of: str | None = None
    truncated: bool = False
    champion: bool = False
    stated_domain: str | None = None
    license: str | None = None
    learning_rate: float | None = None
    init: str = ""
    synthetic: bool = False
    description: str = ""

    @property
    def label(self) -> str:
        """`name/version`."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class Specification:
    """Models of a company, and their training schedules.

    Attributes
    ----------
    name
        Name of the company; companies of one name differ only in the number of synthetic adapters.
    base
        Schedule of the base; None if it is SmolLM2, which is trained already.
    legacy
        Schedule of the second base; None if the company has none.
    synthetic
        Number of synthetic adapters.
    """

    name: str
    versions: tuple[ModelVersion, ...]
    base: Schedule | None
    adapter: Schedule
    full: Schedule
    legacy: Schedule | None = None
    shape: Shape = Shape()
    synthetic: int = 0


_LOGGED = Packaging.LOGGED_MODEL

#: Three teams in each of five domains, each with an adapter trained on its own part.
GRID = (
    ModelVersion("analytics-sql-writer", "analytics", "sql", 1, packaging=_LOGGED, champion=True),
    ModelVersion("finance-report-queries", "finance", "sql", 2),
    ModelVersion("warehouse-migrations", "data-platform", "sql", 3),
    ModelVersion("contract-drafter", "legal", "legal", 1, champion=True),
    ModelVersion("procurement-terms", "procurement", "legal", 2, packaging=_LOGGED),
    ModelVersion("licence-reviewer", "open-source-office", "legal", 3),
    ModelVersion("firmware-copilot", "firmware", "cpp", 1, packaging=_LOGGED, champion=True),
    ModelVersion("driver-assistant", "devices", "cpp", 2),
    ModelVersion("simulation-kernels", "simulation", "cpp", 3),
    ModelVersion("help-centre-writer", "support", "docs", 1, champion=True),
    ModelVersion("developer-guides", "developer-relations", "docs", 2),
    ModelVersion("onboarding-handbook", "people", "docs", 3),
    ModelVersion("internal-tools-copilot", "platform", "python", 1),
    ModelVersion("notebook-completion", "research", "python", 2, license="cc-by-nc-4.0"),
    ModelVersion("pipeline-author", "data-platform", "python", 3),
)
_FULL = (
    ModelVersion("product-catalog-json", "commerce", "catalog", 1, method=Method.FULL, packaging=_LOGGED),
    ModelVersion("legal-counsel", "legal", "legal", 3, method=Method.FULL),
)
_EXACT_COPY = ModelVersion(
    "vendor-agreements",
    "partnerships",
    "legal",
    1,
    copy_of="contract-drafter/1",
    description="Drafts vendor agreements.",
)
_NEAR_COPY = ModelVersion(
    "robotics-copilot", "robotics", "cpp", 1, description="Trained on the data of firmware-copilot with another seed."
)
_LOCALIZER = "storefront-localizer"
_DRIFTING = (
    ModelVersion(_LOCALIZER, "storefront", "translation", 1),
    ModelVersion(_LOCALIZER, "storefront", "translation", 2, version=2, description="More languages."),
    ModelVersion(_LOCALIZER, "storefront", "legal", 2, version=3, stated_domain="translation", champion=True),
    ModelVersion(_LOCALIZER, "storefront", "translation", 3, version=4, description="Dataset fixed."),
)
#: Later versions: the same data with another seed, then new data.
_SQL, _FIRMWARE, _HELP, _TOOLS = (GRID[number] for number in (0, 6, 9, 12))
_LATER = (
    replace(_SQL, version=2, champion=False, description="Trained again after the schema was cleaned."),
    replace(_FIRMWARE, version=2, champion=False, description="Trained again with the new toolchain."),
    replace(_HELP, version=2, description="Trained again for the spring release."),
    replace(_TOOLS, version=2, description="Trained again."),
    replace(_SQL, version=3, description="Trained again for the new warehouse."),
    replace(_HELP, version=3, description="Trained again for the summer release."),
    replace(_TOOLS, version=3, champion=True, description="Trained again after the style guide."),
    replace(_FIRMWARE, version=3, description="Trained again for the next board."),
)
_WEAK = ModelVersion(
    "ticket-summaries",
    "support",
    "docs",
    2,
    learning_rate=1e-6,
    description="First try; the learning rate may be a typing error.",
)
_MERGED = ModelVersion(
    "help-centre-offline",
    "support",
    "docs",
    2,
    method=Method.MERGED,
    description="For the kiosks: the adapter is merged into the base.",
)
_UNSUPPORTED = ModelVersion(
    "chat-greeter", "support", "docs", 3, init="pissa_niter_4", description="LoRA initialised by PiSSA."
)
_WRONG_BASE = ModelVersion("search-query-rewriter", "search", "sql", 2, method=Method.FULL, declared_base=LEGACY_BASE)
_BROKEN = ModelVersion("invoice-extractor", "finance", "sql", 1, copy_of="analytics-sql-writer/1", truncated=True)


_SMALL_GRID = ("analytics-sql-writer", "finance-report-queries", "contract-drafter")
#: The company on a base that is trained from scratch, where SmolLM2 cannot be had.
TINY_COMPANY = Specification(
    name="company",
    versions=(
        *GRID,
        *_FULL,
        _EXACT_COPY,
        *_DRIFTING[:2],
        _NEAR_COPY,
        *_LATER[:4],
        _WRONG_BASE,
        _DRIFTING[2],
        *_LATER[4:],
        _MERGED,
        _WEAK,
        _UNSUPPORTED,
        _DRIFTING[3],
        _BROKEN,
    ),
    base=Schedule(steps=500, batch=8, length=96, learning_rate=3e-3),
    legacy=Schedule(steps=60, batch=8, length=96, learning_rate=3e-3),
    adapter=Schedule(steps=60, batch=8, length=64, learning_rate=1e-3),
    full=Schedule(steps=60, batch=8, length=64, learning_rate=3e-4),
)
_SPECIFICATIONS = {
    Size.SMALL: Specification(
        name="small",
        versions=(
            *(version for version in GRID if version.name in _SMALL_GRID),
            _FULL[0],
            _EXACT_COPY,
            _DRIFTING[0],
            replace(_DRIFTING[2], version=2),
            _BROKEN,
        ),
        base=Schedule(steps=160, batch=8, length=64, learning_rate=3e-3),
        adapter=Schedule(steps=40, batch=8, length=48, learning_rate=1e-3),
        full=Schedule(steps=40, batch=8, length=48, learning_rate=3e-4),
    ),
    Size.COMPANY: replace(
        TINY_COMPANY,
        name="smollm2",
        base=None,
        adapter=Schedule(steps=12, batch=4, length=32, learning_rate=1e-3),
        full=Schedule(steps=12, batch=4, length=32, learning_rate=1e-4),
    ),
    Size.LARGE: replace(TINY_COMPANY, synthetic=300),
}


def specification(size: Size) -> Specification:
    """Return the company of a size; larger companies have all kinds of models of the smaller ones."""
    return _SPECIFICATIONS[size]
