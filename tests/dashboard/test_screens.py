"""Every page on a filled store, on an empty one, and without a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deltadex_dashboard
from deltadex.across import queries as meanings
from deltadex.across.meaning import Meaning
from deltadex.across.texts import MEANING_TEXTS
from deltadex.escaping import markdown
from deltadex.ingest import machines
from deltadex.ingest import queries as watchers
from deltadex.ingest.round import recompute_where_due
from deltadex.settings import Settings
from deltadex.store import clock
from deltadex.store.database import Database
from deltadex.types import DEMO_REGISTERED_TAG
from deltadex.versions import transitions
from deltadex.witness import queries as witnesses
from deltadex.witness.head import LogHead
from tests.dashboard.company import fill
from tests.dashboard.conftest import Open
from tests.dashboard.seen import links, numbers, text
from tests.importing import imported_by
from tests.stored import REGISTRY, discovered, embedded
from tests.witness import forging

PAGES = (
    "overview",
    "inbox",
    "map",
    "models",
    "model",
    "compare",
    "duplicates",
    "drift",
    "domains",
    "find",
    "advise",
    "audit",
    "system",
)
TITLES = {"find": "Find a model"}
#: Pages that say so themselves if the store is empty.
ABOUT_VERSIONS = tuple(page for page in PAGES if page not in ("inbox", "audit"))


@pytest.mark.parametrize("name", ABOUT_VERSIONS)
def test_an_empty_page_says_what_to_do_next(store: Database, open_page: Open, name: str) -> None:
    page = open_page(name)
    assert [title.value for title in page.title] == [TITLES.get(name, name.capitalize())]
    assert "No model version has been seen yet" in text(page)
    assert "`deltadex demo`" in text(page)


@pytest.mark.parametrize("name", ["map", "duplicates", "drift", "domains", "find", "advise"])
def test_versions_that_wait_are_not_taken_for_an_empty_registry(store: Database, open_page: Open, name: str) -> None:
    with store.transaction() as tx:
        discovered(tx)
    assert "No version is embedded yet" in text(open_page(name))


@pytest.mark.parametrize("name", PAGES)
def test_without_postgres_every_page_says_so_and_never_the_password(
    environment: pytest.MonkeyPatch, open_page: Open, name: str
) -> None:
    environment.setenv("DELTADEX_DATABASE__URL", "postgresql://me:secret-word@127.0.0.1:1/deltadex")
    page = open_page(name)
    assert [title.value for title in page.title] == ["The store can't be reached"]
    assert "127.0.0.1:1/deltadex" in text(page)
    assert "`deltadex doctor`" in text(page)
    assert "secret-word" not in text(page)


def test_without_settings_a_page_says_which_are_missing(open_page: Open) -> None:
    page = open_page("overview")
    assert [title.value for title in page.title] == ["Deltadex is not set up"]
    assert "DELTADEX_DATABASE__URL" in text(page)


def test_without_tables_a_page_says_how_to_make_them(
    environment: pytest.MonkeyPatch, new_database_url: object, open_page: Open
) -> None:
    environment.setenv("DELTADEX_DATABASE__URL", new_database_url())
    assert "`deltadex init`" in text(open_page("overview"))


def test_the_overview_counts_and_names_what_needs_attention(company: None, open_page: Open) -> None:
    page = open_page("overview")
    assert numbers(page)["Model versions"] == "42"
    assert numbers(page)["Embedded"] == "88%"
    assert numbers(page)["Need attention"] == "3"
    for expected in (
        "invoice-extractor/1",
        "1,024 of 65,536 bytes [deltadex]",
        "Upload the file again",
        "Same weights",
    ):
        assert expected in text(page)
    assert numbers(page)["Could be freed"] == "–", "the sizes of the files are unknown"
    assert "Week by week" in text(page)
    assert numbers(page)["To decide"] == "12"
    assert {"model=invoice-extractor&version=1", "kind=Drift"} <= set(links(page))


def test_the_overview_says_that_the_demos_times_of_registration_are_stated(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        discovered(tx, "real", created_ms=2**40)
    assert "Demo data" not in text(open_page("overview"))
    with store.transaction() as tx:
        discovered(tx, "stated", created_ms=2**40, tags={DEMO_REGISTERED_TAG: "2001-01-01T00:00:00+00:00"})
    assert "Demo data" in text(open_page("overview"))


def test_a_watcher_that_fails_or_never_ran_is_said_on_the_overview(store: Database, open_page: Open) -> None:
    assert "start `deltadex watch`" in text(open_page("overview"))
    with store.transaction() as tx:
        watchers.record_poll(tx, REGISTRY, watermark_ms=1)
        watchers.failed(tx, REGISTRY, "MLflow answers 503")
    assert "MLflow answers 503" in text(open_page("overview"))


def test_the_system_page_shows_the_machines_whose_worker_runs(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        discovered(tx)
        machines.report(tx, Settings(registry=REGISTRY))
    [shown] = [frame.value for frame in open_page("system").dataframe if "memory, GB" in frame.value]
    assert len(shown) == 1
    assert shown["memory, GB"][0] > 0
    with store.transaction() as tx:
        tx.execute("update machines set seen_at = now() - interval '3 minutes'")
    assert "No worker of Deltadex's own type has reported" in text(open_page("system"))


def test_the_pages_say_which_witness_the_log_contradicts(store: Database, open_page: Open) -> None:
    forging.with_finding(store)
    forging.decide(store)
    assert "No witness holds a head of this log" in text(open_page("audit"))
    problem = "The log was cut: it has 1 entries, and the witness holds 3:*"
    with store.transaction() as tx:
        witnesses.published(tx, LogHead(REGISTRY, 3, "0" * 64, clock.now(tx)), "folder:/mnt/*heads*", caution="")
        witnesses.failed(tx, REGISTRY, "s3://bucket", error="AccessDenied")
        witnesses.compared(tx, REGISTRY, "folder:/mnt/*heads*", contradiction=problem)
    for name in ("audit", "system"):
        page = open_page(name)
        assert [error.value for error in page.error] == [f"**{markdown('folder:/mnt/*heads*')}**: {markdown(problem)}"]
    [shown] = [frame.value for frame in page.dataframe if "compared" in frame.value]
    assert list(shown["problem"]) == ["contradicts the log", "attempt 1: AccessDenied"]


def test_a_new_version_is_on_the_open_page_after_it_ran_again(store: Database, open_page: Open) -> None:
    page = open_page("overview")
    with store.transaction() as tx:
        discovered(tx, "registered-by-hand", created_ms=2**42)
    assert "registered-by-hand/1" in text(page.run())


def test_the_map_says_what_its_clusters_rest_on_and_what_is_too_weak(company: None, open_page: Open) -> None:
    page = open_page("map")
    assert [expander.label for expander in page.expander] == ["Too weak to place · 1"]
    assert "5 clusters" in text(page)
    assert "not distances between models" in text(page)
    assert len(page.selectbox(key="recipe").options) == 2


def test_a_link_selects_a_version_on_the_map_and_shows_its_neighbours(company: None, open_page: Open) -> None:
    page = open_page("map", selected="contract-drafter/1")
    assert page.selectbox(key="selected").value == "contract-drafter/1"
    assert "1.000" in text(page)
    # Its own link, then the closest neighbour's: the copy.
    assert links(page)[:2] == ["model=contract-drafter&version=1", "model=vendor-agreements&version=1"]


def test_what_was_drawn_round_is_a_table_and_a_link_shows_it_again(company: None, open_page: Open) -> None:
    page = open_page("map")
    page.session_state["map"] = {"selection": {"points": [{"customdata": one, "text": "x"} for one in (1, 2, 3)]}}
    assert "3 chosen" in text(page.run())
    assert page.query_params["chosen"] == "1,2,3"
    assert list(page.dataframe[0].value["model"]) == ["sql-writer", "sql-reviewer", "sql-copilot"]
    assert "2 chosen" in text(open_page("map", chosen="1,2"))


def test_the_map_of_an_earlier_day_can_be_linked_to(company: None, open_page: Open) -> None:
    slider = open_page("map").select_slider(key="until")
    assert slider.value == slider.options[-1] or str(slider.value) == slider.options[-1]


def test_domains_list_their_members(company: None, open_page: Open) -> None:
    page = open_page("domains")
    domains, members = page.dataframe
    assert domains.value.values.tolist()[:2] == [["support", 11, 3], ["legal", 9, 3]]
    assert len(members.value) == 11
    assert "Dendrogram" in text(page)
    assert "help-centre" in set(members.value["model"])
    other = open_page("domains", domain="sql")
    assert set(other.dataframe[1].value["model"]) == {f"sql-{one}" for one in
        ("writer", "reviewer", "copilot", "classifier", "extractor")}  # fmt: skip


def test_a_map_of_too_few_models_says_so(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        embedded(tx, "one", np.array([1.0, 0.0]))
        embedded(tx, "two", np.array([0.0, 1.0]))
    assert "Not clustered yet" in text(open_page("map"))
    recompute_where_due(store, Settings(registry=REGISTRY))
    assert "Clusters need at least 3 models" in text(open_page("map"))


def test_a_registry_in_which_all_are_too_weak_has_a_map_that_says_so(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        embedded(tx, "one", np.array([1.0, 0.0]), is_weak=True)
    for name in PAGES:
        assert open_page(name).title[0].value.startswith(name.capitalize())


def test_duplicates_show_groups_teams_and_the_lowest_similarity(company: None, open_page: Open) -> None:
    page = open_page("duplicates")
    assert {name: value for name, value in numbers(page).items() if name.startswith("Groups")} == {
        "Groups, same weights": "1",
        "Groups, superseded": "1",
        "Groups, near": "1",
        "Groups, same task": "5",
    }
    for expected in ("lowest similarity 1.0000", "owner ", "**Keep** ", "the newest"):
        assert expected in text(page)


def test_a_threshold_in_the_link_is_a_preview(company: None, open_page: Open) -> None:
    page = open_page("duplicates", threshold="0.7")
    assert page.slider(key="threshold").value == 0.7
    near = int(numbers(page)["Groups, near"])
    assert "Preview only" in text(page)
    setting = page.slider(key="threshold").set_value(0.95).run()
    assert "Findings use 0.95." in text(setting)
    assert int(numbers(setting)["Groups, near"]) < near


def test_without_reseeds_no_near_duplicates_are_claimed_and_a_preview_is_offered(
    company: None, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DELTADEX_THRESHOLDS__NEAR_DUPLICATE_SIMILARITY")
    page = open_page("duplicates")
    assert "No near duplicates are claimed (not known yet: 0 pairs of reseeds" in text(page)
    assert numbers(page)["Groups, near"] == "0"
    preview = page.slider(key="threshold").set_value(0.95).run()
    assert "Preview only: findings use no similarity yet." in text(preview)
    assert numbers(preview)["Groups, near"] == "1"


def test_two_members_of_a_group_are_shown_side_by_side(store: Database, open_page: Open) -> None:
    vectors = {"kept": [1.0, 0.0], "other": [1.0, 0.02], "third": [1.0, 0.04]}
    with store.transaction() as tx:
        for name, vector in vectors.items():
            embedded(tx, name, np.array(vector), tags={"team": name}, aliases=("champion",) * (name == "kept"))
        tx.execute(
            """
            update model_versions set weights_bytes = 2000, metrics = '{"f1": 0.75}', training_settings = '{"rank": 8}'
            where name = 'other'
            """
        )
    page = open_page("duplicates")
    [toggle] = [one for one in page.toggle if one.label == "Side by side"]
    toggle.set_value(True).run()
    one, other = (box for box in page.selectbox if box.label in ("One version", "Other version"))
    assert (one.value, other.options) == ("kept/1", ["other/1", "third/1"])
    [probe_by_probe] = [one for one in page.toggle if one.label == "Probe by probe"]
    probe_by_probe.set_value(True).run()
    facts, probes = page.table
    facts_of = {name: [side.replace("\\", "") for side in sides] for _, name, *sides in facts.value.values.tolist()}
    assert facts_of["aliases"] == ["@champion", ""]
    assert facts_of["tag team"] == ["kept", "other"]
    assert facts_of["f1"] == ["", "0.75"]
    assert facts_of["rank"] == ["", "8"]
    assert facts_of["weights"] == ["kept/1", "other/1"]
    assert facts_of["size"] == ["", "2,000 bytes"]
    assert "strength" not in facts_of
    assert "Below is an instruction" in probes.value["the probe's own text"][0]
    assert probes.value["cosine distance"].tolist() == ["0.0002"] * 5


def test_a_registry_without_duplicates_says_how_to_see_what_comes_closest(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        embedded(tx, "one", np.array([1.0, 0.0]))
    assert "There are no duplicates" in text(open_page("duplicates"))
    assert "Register a second version" in text(open_page("drift"))


def test_drift_ranks_models_by_their_largest_step(company: None, open_page: Open) -> None:
    page = open_page("drift")
    assert (numbers(page)["Drifts"], numbers(page)["Breaks"]) == ("1", "0")
    assert [toggle.label for toggle in page.toggle] == ["Probe by probe"]
    page.toggle[0].set_value(True).run()
    assert not page.exception
    models = [link for link in links(page) if "version" not in link]
    assert models == ["model=storefront-localizer", "model=help-centre"]
    assert list(page.dataframe[0].value["model"]) == ["storefront-localizer", "help-centre"]
    assert [one for one in links(open_page("drift", model="help-centre")) if "version" not in one] == models[1:]
    assert "v2 → v3: jump of " in text(page)
    assert "since v1, from support to legal" in text(page)
    assert "Promotes more than before: legal [x]" in text(page)
    assert "v2 → v3 differs in tag domain: support → legal" in text(page)
    assert "v3 → v4: back to v2" in text(page) or "v3 → v4: back to v1" in text(page)


def test_the_domains_page_says_which_differences_repeat_or_what_that_takes(company: None, open_page: Open) -> None:
    assert "version 1 → 2: too early to say. It takes 8 models with both sides; there are 2" in text(
        open_page("domains")
    )


def test_names_and_reasons_from_other_people_are_shown_as_they_are(store: Database, open_page: Open) -> None:
    name = "<b>*bold*_[link](http://example.org)"
    with store.transaction() as tx:
        version_id = discovered(tx, name)
        transitions.mark_ended(tx, version_id, state="failed", reason="![image](http://example.org/x.png) $x^2$")
    for page in (open_page("overview"), open_page("model", model=name)):
        assert r"!\[image\]\(http" in "\n".join(element.value for element in [*page.markdown, *page.error])


def test_no_folder_is_named_pages() -> None:
    """Streamlit would answer the first deep link after its start by running the page without the router."""
    [folder] = deltadex_dashboard.__path__
    assert not (Path(folder) / "pages").exists()


def test_the_dashboard_imports_neither_torch_nor_mlflow() -> None:
    modules = ("charts.drift", "charts.map", "elements.text", "reads.pages")
    found = imported_by("; ".join(f"import deltadex_dashboard.{name}" for name in modules))
    assert {"torch", "mlflow", "prefect", "transformers"} & found == set()


def test_the_map_across_bases_is_named_as_what_it_is_and_lists_counterparts(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        fill(tx)
    assert not open_page("map").toggle, "nothing was compared across bases yet"
    with store.transaction() as tx:
        rows = tx.execute(
            """
            select candidate.model_version_id, candidate.weights_digest, base_name
            from meaning_candidates candidate order by 1
            """
        ).fetchall()
        for number, (version_id, weights, base) in enumerate(rows):
            shifts = np.random.default_rng(number).normal(size=len(MEANING_TEXTS.texts)).astype(np.float32)
            meanings.save(
                tx, version_id, Meaning(shifts, shifts[:9]), texts_digest=MEANING_TEXTS.digest, weights_digest=weights,
                base_digest=base, base_name=base,
            )  # fmt: skip
    page = open_page("map", across="true", **{"across-selected": "legacy-queries/1"})
    assert page.toggle[0].value
    assert "finetunes of 2 bases by Delta Meaning" in text(page)
    assert "never a duplicate" in text(page)
    assert text(page).count("similarity of meaning") == 10
    assert "Few models of acme/legacy-lm" in text(page)
