"""The Python interface to the store: the values that the commands print and the pages show."""

from __future__ import annotations

from collections.abc import Collection
from os import PathLike
from pathlib import Path
from typing import Self

from deltadex.access import Person, at_terminal
from deltadex.clusters.runs import Domains, domains
from deltadex.drift.model_drift import DEFAULT_ALIAS, ModelDrift, model_drift
from deltadex.duplicates.overview import RecipeRedundancy, redundancies
from deltadex.embeddings import reads as embeddings
from deltadex.reviews import actions as reviews
from deltadex.reviews.lifecycle import UNDECIDED, Status
from deltadex.reviews.queries import ReviewRow
from deltadex.search.neighbors import Found
from deltadex.search.reads import neighbors
from deltadex.settings import Settings, load_settings
from deltadex.store.database import Database
from deltadex.types import FindingKind
from deltadex.versions import reads as versions
from deltadex.versions.labels import known_version, parse_label, unknown


def connect(
    settings: Settings | None = None,
    *,
    data_dir: str | PathLike[str] | None = None,
    database_url: str | None = None,
    registry: str | None = None,
) -> Connection:
    """Connect to Deltadex's database, to read its results.

    Needs neither MLflow nor Prefect nor torch. The connection is opened at the first read. Models that the operating
    system's user may not see are hidden, as on the command line.

    Parameters
    ----------
    settings
        Used instead of the environment; excludes the other arguments.
    data_dir
        Folder of the embedded stack, as `--data-dir`.
    database_url
        `postgresql://…` of the database, as `--database-url`.
    registry
        Name of the registry in the database, as `DELTADEX_REGISTRY`.

    Raises
    ------
    deltadex.errors.SettingsError
        A setting is wrong, or no database is set.
    deltadex.errors.AccessDenied
        There is an access file, and the operating system's user is not in it.

    Examples
    --------
    With the settings of the environment, or of the stack running on this machine:

    >>> import deltadex
    >>> with deltadex.connect() as registry:
    ...     found = registry.neighbors("contract-drafter/1")
    >>> found.neighbors[0].version.label
    'vendor-agreements/1'
    """
    if settings is None:
        settings = load_settings(
            data_dir=None if data_dir is None else Path(data_dir).absolute(),
            database=None if database_url is None else {"url": database_url},
            registry=registry,
        )
    elif (data_dir, database_url, registry) != (None, None, None):
        raise TypeError("connect() takes settings, or the other arguments, not both")
    return Connection(settings)


class Connection:
    """Connection to one registry in Deltadex's database: a context manager, returned by `deltadex.connect`.

    Thread-safe; each call reads in its own transaction.

    Examples
    --------
    >>> import deltadex
    >>> with deltadex.connect() as registry:
    ...     groups = [group for recipe in registry.duplicates() for group in recipe.groups]
    ...     drift = registry.drift("storefront-localizer")
    >>> len(groups) > 0
    True
    >>> [str(step.change) for step in drift.steps]
    ['None', 'jump', 'return']
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._viewer: Person = at_terminal(settings)
        self._database = Database(
            settings.url_of("reader"), pool_size=settings.database.pool_size, role=settings.database.role
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all database connections; a later read opens new ones."""
        self._database.close()

    def neighbors(self, name_version: str, *, limit: int = 10, min_similarity: float = -1.0) -> Found:
        """Return the versions closest to one version, the closest first.

        Parameters
        ----------
        name_version
            Such as `"sql-writer/3"`.
        limit
            Maximum number of neighbours.
        min_similarity
            Minimum cosine similarity.

        Returns
        -------
        Found
            `neighbors`, each with `version` and `similarity`; where `is_exact` is False some may be missing. Empty for
            a version that has no embedding, or whose delta is too weak to place.

        Raises
        ------
        deltadex.errors.DeltadexError
            There is no such version.

        Examples
        --------
        >>> import deltadex
        >>> with deltadex.connect() as registry:
        ...     found = registry.neighbors("contract-drafter/1", limit=3, min_similarity=0.9)
        >>> found.is_exact
        True
        >>> [neighbor.version.label for neighbor in found.neighbors]
        ['vendor-agreements/1', 'procurement-terms/1']
        """
        with self._database.transaction() as tx:
            row = known_version(tx, self._viewer, self._settings.registry, *parse_label(name_version))
            return neighbors(tx, self._viewer, row.id, k=limit, min_similarity=min_similarity)

    def duplicates(self, *, similarity: float | None = None) -> tuple[RecipeRedundancy, ...]:
        """Return the groups of redundant versions of each recipe, each with the version to keep.

        Parameters
        ----------
        similarity
            Near-duplicate threshold (cosine similarity); default: the recipe's own.

        Examples
        --------
        >>> import deltadex
        >>> with deltadex.connect() as registry:
        ...     groups = [group for recipe in registry.duplicates() for group in recipe.groups]
        >>> str(groups[0].kind), [version.label for version in groups[0].proposal.retired]
        ('exact', ['vendor-agreements/1'])
        >>> sorted(version.label for version in groups[0].versions)
        ['contract-drafter/1', 'vendor-agreements/1']
        """
        with self._database.transaction() as tx:
            return tuple(redundancies(tx, self._viewer, self._settings, similarity=similarity))

    def drift(self, name: str, *, alias: str = DEFAULT_ALIAS) -> ModelDrift | None:
        """Return the drift of a registered model; None if fewer than two of its versions can be placed.

        Parameters
        ----------
        alias
            Also measure from the version with this alias.

        Raises
        ------
        deltadex.errors.DeltadexError
            There is no such model.

        Examples
        --------
        >>> import deltadex
        >>> with deltadex.connect() as registry:
        ...     drift = registry.drift("storefront-localizer")
        >>> drift.changes
        1
        >>> drift.steps[1].previous.distance > 0.5
        True
        """
        with self._database.transaction() as tx:
            if not versions.find(tx, self._viewer, self._settings.registry, name):
                raise unknown(name)
            registry, thresholds = self._settings.registry, self._settings.thresholds
            return model_drift(tx, self._viewer, registry, name, thresholds=thresholds, alias=alias)

    def clusters(self) -> tuple[Domains, ...]:
        """Return the domains of the models of each recipe, from the latest clustering.

        Examples
        --------
        >>> import deltadex
        >>> with deltadex.connect() as registry:
        ...     found = registry.clusters()
        >>> sorted(domain.cluster.name for domain in found[0].domains)
        ['code', 'legal', 'medical', 'sql', 'support']
        """
        with self._database.transaction() as tx:
            recipes = embeddings.recipes(tx, self._viewer, self._settings.registry)
            return tuple(domains(tx, self._viewer, self._settings.registry, recipe) for recipe in recipes)

    def findings(
        self,
        *,
        statuses: Collection[Status | str] = UNDECIDED,
        kinds: Collection[FindingKind | str] = tuple(FindingKind),
    ) -> tuple[ReviewRow, ...]:
        """Return findings with their reviews, the most severe first, then by due date.

        Parameters
        ----------
        statuses
            Only findings with these statuses; default: the undecided ones.
        kinds
            Only findings of these kinds, such as `["drift"]`.

        Examples
        --------
        >>> import deltadex
        >>> with deltadex.connect() as registry:
        ...     rows = registry.findings(kinds=["exact_duplicate"])
        >>> sorted(version.label for version in rows[0].versions)
        ['contract-drafter/1', 'vendor-agreements/1']
        >>> str(rows[0].severity), str(rows[0].review.status)
        ('medium', 'open')
        """
        chosen_statuses, chosen_kinds = [Status(status) for status in statuses], [FindingKind(kind) for kind in kinds]
        with self._database.transaction() as tx:
            rows = reviews.listing(tx, self._viewer, self._settings, statuses=chosen_statuses, kinds=chosen_kinds)
            return tuple(rows)
