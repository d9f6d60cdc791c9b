from __future__ import annotations

from deltadex.access import Person, Role
from deltadex.store.database import Database
from deltadex.versions import reads as versions
from tests.stored import REGISTRY, discovered

VIEWER = Person("eve", Role.VIEWER, ("sql-*",))


def test_the_order_of_masked_versions_does_not_tell_how_their_names_are_sorted(database: Database) -> None:
    with database.transaction() as tx:
        first, second = discovered(tx, "zzz"), discovered(tx, "aaa")
        own = [discovered(tx, "sql-writer", number) for number in (1, 2)]
        listed = [row.id for row in versions.listing(tx, VIEWER, REGISTRY)]
    assert listed == [*reversed(own), first, second]
