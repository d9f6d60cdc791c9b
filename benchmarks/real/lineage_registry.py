"""All finetunes whose lineage is known, sketched, as a registry that can be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from benchmarks.real.lineage_models import Mergery, Nursery
from benchmarks.real.lineage_specification import Descendant, KnownMerge, descendants, known_merges
from benchmarks.real.pools import Finetune, finetunes, of_reuse
from benchmarks.real.texts import DOMAINS, Role
from benchmarks.real.training import Workshop
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.checkpoints.sketch import Sketch, sketch
from deltadex.downloads.files import LocalFiles
from deltadex.lineage.kinship import Kinship, kinship
from deltadex.lineage.measure import LinkKind, relations

Known = Finetune | Descendant | KnownMerge
_K = TypeVar("_K", bound=Known)


@dataclass(frozen=True)
class KnownRegistry:
    """Finetunes of the pools, those with known parents, and merges, with their sketches."""

    pool: tuple[Finetune, ...]
    family: tuple[Descendant, ...]
    merges: tuple[KnownMerge, ...]
    sketches: Mapping[Known, Sketch]
    is_reuse: bool

    @classmethod
    def of(cls, folder: Path, *, reuse: bool, train: bool = True) -> KnownRegistry:
        """Sketch all finetunes, of the train and select domains only or with those of reuse.

        Parameters
        ----------
        train
            Train what is missing; else it is left out.
        """
        workshop = Workshop.of_smollm2(folder)
        nursery = Nursery(workshop)
        mergery, cache = Mergery(workshop, nursery), _SketchCache(workshop.base, folder / "lineage" / "sketches")
        pool = tuple(one for one in (*finetunes(), *of_reuse()) if reuse or _is_open(one))
        family, merges = descendants(reuse=reuse), tuple(known_merges(reuse=reuse))
        sketches: dict[Known, Sketch] = {}
        for one in (*pool, *family):
            if train or nursery.is_trained(one) or cache.has(_name(one)):
                sketches[one] = cache.sketch(nursery.folder, one, _name(one))
        for merge in merges:
            if all(parent in sketches for parent in merge.parents) and (train or cache.has(merge.name)):
                sketches[merge] = cache.sketch(mergery.folder, merge, merge.name)
        pool, family, merges = (tuple(one for one in ones if one in sketches) for ones in (pool, family, merges))
        return cls(pool, family, merges, sketches, reuse)

    @property
    def base(self) -> Sketch:
        """A sketch whose base is SmolLM2."""
        return next(iter(self.sketches.values()))

    def as_base(self, one: Known) -> Sketch:
        """Return a sketch whose base is a finetune."""
        return replace(self.base, base=self.sketches[one].weights)

    def parents(self, one: Known) -> list[tuple[LinkKind, Known]]:
        """Return the directed relations that end in one, as the product finds them among all."""
        number = self._numbers[one]
        found = relations(number, self._coarse, lambda ids: {each: self._by_number[each] for each in ids})
        ordered = list(self.sketches)
        return [(link.kind, ordered[link.earlier]) for link in found if link.is_directed and link.later == number]

    def kinship(self, one: Known, other: Known) -> Kinship | None:
        """Return the evidence for a shared origin, corrected for the size of the registry."""
        return kinship(self.sketches[one], self.sketches[other], comparisons=len(self.sketches))

    def strangers(self) -> Iterator[tuple[Finetune, Finetune]]:
        """Yield pairs of the pools with seeds of their own; of a test, those with a new domain."""
        for one, other in combinations(self.pool, 2):
            is_asked = not self.is_reuse or not all(map(_is_earlier, (one, other)))
            if is_asked and one.seed != other.seed:
                yield one, other

    @cached_property
    def _numbers(self) -> dict[Known, int]:
        return {one: number for number, one in enumerate(self.sketches)}

    @cached_property
    def _by_number(self) -> dict[int, Sketch]:
        return dict(enumerate(self.sketches.values()))

    @cached_property
    def _coarse(self) -> dict[int, Sketch]:
        return {number: one.coarse() for number, one in self._by_number.items()}


class _SketchCache:
    """Sketches that are kept in a folder, beside a digest of the code that made them."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._base, self._folder = _checkpoint(base), folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        return (self._folder / name).exists()

    def sketch(self, make: Callable[[_K], Path], one: _K, name: str) -> Sketch:
        file = self._folder / name
        if not file.exists():
            found = sketch(_checkpoint(make(one)), self._base)
            if found is None:
                raise ValueError(f"{one} has no sketch")
            file.write_bytes(found.layout.encode() + found.to_bytes())
        content = file.read_bytes()
        return Sketch.from_bytes(content[:64].decode(), content[64:])


def _checkpoint(folder: Path) -> LocalCheckpoint:
    found = inspect(LocalFiles(folder)).fetch()
    if not isinstance(found, LocalCheckpoint):
        raise TypeError(f"{folder} is not on this machine")
    return found


def _name(one: Finetune | Descendant) -> str:
    return one.name if isinstance(one, Descendant) else Descendant(one).name + "-pool"


def _roles(one: Finetune) -> set[Role]:
    return {DOMAINS[name].role for name in one.domains}


def _is_open(one: Finetune) -> bool:
    return _roles(one) <= {Role.TRAIN, Role.SELECT}


def _is_earlier(one: Finetune) -> bool:
    return Role.REUSE not in _roles(one)
