"""A log that was cut or rewritten by the owner of its tables, so that it looks whole, contradicts its witnesses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deltadex.reviews import chain
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.witness import queries
from deltadex.witness.compare import STAMPED, HeadComparison, ask, compare
from deltadex.witness.configured import witnesses_of
from deltadex.witness.publish import compare_with_witnesses, publish
from tests.stored import REGISTRY
from tests.witness import forging


def head_comparisons(settings: Settings, database: Database) -> dict[str, HeadComparison]:
    published = database.run(lambda tx: queries.states(tx, REGISTRY))
    answers = ask(witnesses_of(settings), REGISTRY, published=published)
    with database.transaction() as tx:
        assert chain.verify(tx).problem == ""  # by itself, the log looks whole
        return {one.witness: one for one in compare(tx, REGISTRY, answers)}


@pytest.fixture
def settings(settings_with: Callable[..., Settings], heads: Path, remote: Path) -> Settings:
    return settings_with(f"folder:{heads}", f"git+file://{remote}")


def test_a_whole_log_agrees_with_all_its_witnesses(settings: Settings, store: Database) -> None:
    assert publish(settings, store) == 2
    forging.decide(store)
    assert publish(settings, store) == 2
    forging.decide(store)  # not published yet
    found = head_comparisons(settings, store)
    assert [(one.heads, one.agreed and one.agreed.entries, one.problem) for one in found.values()] == [(2, 4, "")] * 2


@pytest.mark.parametrize("count", [1, 3])
def test_a_log_whose_last_entries_were_deleted_is_found(settings: Settings, store: Database, count: int) -> None:
    publish(settings, store)
    forging.cut(store, count)
    for one in head_comparisons(settings, store).values():
        assert one.denied
        assert one.denied.entries == 3
        assert f"was cut: it has {3 - count} entries, and the witness holds 3:" in one.problem
        assert f"published at {one.denied.at:%Y-%m-%d %H:%M:%S} UTC" in one.problem


def test_a_log_that_was_cut_and_went_on_is_found(settings: Settings, store: Database) -> None:
    publish(settings, store)
    forging.decide(store, 2)
    publish(settings, store)
    forging.cut(store, 1)
    forging.decide(store, 5)
    publish(settings, store)  # the watcher goes on, and vouches for the log as it is
    for one in head_comparisons(settings, store).values():
        assert (one.agreed and one.agreed.entries, one.denied and one.denied.entries) == (3, 5)
        assert "its entry 5 is another one" in one.problem


def test_an_entry_that_was_rewritten_with_the_whole_chain_after_it_is_found(
    settings: Settings, store: Database
) -> None:
    publish(settings, store)
    forging.decide(store, 2)
    publish(settings, store)
    noted = store.run(chain.verify).head
    forging.rewrite(store, 4)
    with store.transaction() as tx:
        assert "is missing" in chain.verify(tx, holding=noted).problem
    for one in head_comparisons(settings, store).values():
        assert (one.agreed and one.agreed.entries, one.denied and one.denied.entries) == (3, 5)
        assert "was rewritten" in one.problem
    forging.rewrite(store, 1)
    for one in head_comparisons(settings, store).values():
        assert one.agreed is None
        assert "they agree on no head" in one.problem


def test_an_ownership_history_that_was_changed_is_found(settings: Settings, store: Database) -> None:
    publish(settings, store)
    forging.attest(store)
    assert publish(settings, store) == 2, "the log has not grown"
    assert [one.problem for one in head_comparisons(settings, store).values()] == ["", ""]
    forging.rewrite_ownership(store)
    for one in head_comparisons(settings, store).values():
        assert one.problem.startswith("The ownership history was rewritten: its entry 4 is another one. The witness")
        assert (one.is_shorter, one.denied) == (False, None)
    forging.cut_ownership(store)
    for one in head_comparisons(settings, store).values():
        assert one.problem.startswith("The ownership history was cut: it has 3 entries, and the witness holds 4:")
        assert one.is_shorter
    forging.rewrite(store, 1)
    for one in head_comparisons(settings, store).values():
        assert "The log was rewritten" in one.problem
        assert ". The ownership history was cut" in one.problem
        assert not one.is_shorter


def test_a_database_that_was_emptied_is_found(settings: Settings, store: Database) -> None:
    publish(settings, store)
    forging.cut(store, 3)
    assert all("it has 0 entries" in one.problem for one in head_comparisons(settings, store).values())


def test_a_witness_that_lost_the_head_is_found_while_the_other_still_holds_it(
    settings: Settings, store: Database, heads: Path
) -> None:
    publish(settings, store)
    (heads / f"{REGISTRY}.jsonl").write_text("")
    folder, remote = head_comparisons(settings, store).values()
    assert "no longer holds head 3:" in folder.problem
    assert "the witness was changed" in folder.problem
    assert remote.problem == ""


def test_a_witness_that_does_not_answer_hides_no_other(settings: Settings, store: Database, remote: Path) -> None:
    publish(settings, store)
    forging.cut(store, 1)
    remote.rename(remote.with_suffix(".away"))
    folder, silent = head_comparisons(settings, store).values()
    assert "was cut" in folder.problem
    assert (silent.problem, silent.error != "") == ("", True)


def test_heads_of_other_registries_are_theirs(settings: Settings, store: Database, heads: Path) -> None:
    other = settings.model_copy(update={"registry": "other"})
    publish(settings, store)
    publish(other, store)
    forging.cut(store, 1)
    assert {path.name for path in heads.iterdir()} == {f"{REGISTRY}.jsonl", "other.jsonl"}
    assert {one.heads for one in head_comparisons(settings, store).values()} == {1}


def test_the_watchers_own_comparison_records_what_it_found(settings: Settings, store: Database) -> None:
    publish(settings, store)
    assert compare_with_witnesses(settings, store) == []
    forging.rewrite(store, 2)
    assert len(compare_with_witnesses(settings, store)) == 2
    states = store.run(lambda tx: queries.states(tx, REGISTRY))
    assert all("was rewritten" in state.contradiction and state.asked_at for state in states.values())
    less = settings.model_copy(update={"witnesses": settings.witnesses[:1]})
    compare_with_witnesses(less, store)
    assert list(store.run(lambda tx: queries.states(tx, REGISTRY))) == [witnesses_of(less)[0].name]


def test_time_stamps_name_the_time_that_the_authority_vouches_for(
    settings_with: Callable[..., Settings], store: Database, heads: Path, authority: tuple[str, Path]
) -> None:
    address, root = authority
    settings = settings_with(f"folder:{heads}", f"{address}#ca={root}")
    assert publish(settings, store) == 2
    forging.rewrite(store, 3)
    found = head_comparisons(settings, store)
    assert set(found) == {f"folder:{heads}", STAMPED}
    assert all(f"vouched for by {address} at " in one.problem for one in found.values())
    with store.transaction() as tx:  # the owner can remove them here, and not in the folder
        tx.execute("alter table time_stamps disable trigger user")
        tx.execute("delete from time_stamps")
    assert set(head_comparisons(settings, store)) == {f"folder:{heads}"}
