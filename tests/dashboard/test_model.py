"""The page of one registered model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.evidence.signing import write_new_key
from deltadex.evidence.verify import verify_pack
from deltadex.ownership import actions
from deltadex.ownership import reads as owners
from deltadex.ownership.attestation import Ownership
from deltadex.ownership.facts import OwnershipField
from deltadex.reviews import actions as reviews
from deltadex.settings import load_settings
from deltadex.store.database import Database
from deltadex.types import FindingKind, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from deltadex_dashboard.reads import pages
from deltadex_dashboard.reads.snapshots import Snapshot
from tests.dashboard.conftest import Open
from tests.dashboard.seen import links, numbers, text
from tests.stored import ADMIN, REGISTRY, discovered, embedded, grouped


def test_a_link_opens_one_version_of_a_model(company: None, open_page: Open) -> None:
    page = open_page("model", model="storefront-localizer", version="3")
    assert "storefront-localizer/3" in page.subheader[0].value.replace("\\", "")
    assert "has drifted from" in text(page)
    before = text(open_page("model", model="storefront-localizer", version="2"))
    assert "storefront-localizer/3 has drifted from storefront-localizer/2" in before
    for heading in ("Neighbours", "Lineage", "Versions", "History"):
        assert heading in text(page)
    facts = [row for table in page.dataframe for row in table.value.values.tolist()]
    assert ["run", "run-storefront-localizer-3"] in facts
    assert ["domain", "legal"] in facts
    [graph] = page.get("graphviz_chart")
    assert "storefront-localizer/2" in graph.proto.spec
    assert "model=storefront-localizer" not in links(page), "a link to itself would not be followed"
    assert "a=storefront-localizer%2F3&b=storefront-localizer%2F2" in links(page)
    assert "There are no decisions yet." in text(page)


def test_a_model_says_what_it_promotes_and_demotes(company: None, open_page: Open) -> None:
    shown = text(open_page("model", model="storefront-localizer", version="3"))
    assert "**Promotes** legal [x]" in shown
    assert "**Demotes** the" in shown
    assert "little more than noise" in text(open_page("model", model="barely-trained"))


def test_a_model_is_explained_as_a_mixture_of_domains(company: None, open_page: Open) -> None:
    shown = text(open_page("model", model="storefront-localizer", version="3"))
    assert re.search(r"\*\*Made of\*\* [01]\.\d legal.*, \d+% unexplained", shown)
    assert "No mixture: It changes its base too little" in text(open_page("model", model="barely-trained"))
    assert "No mixture: There are no clusters yet" in text(open_page("model", model="legacy-queries"))


def test_a_model_opens_at_its_newest_version(company: None, open_page: Open) -> None:
    assert "storefront-localizer/4" in text(open_page("model", model="storefront-localizer"))


def test_a_version_that_could_not_be_embedded_says_why_and_what_to_do(company: None, open_page: Open) -> None:
    page = open_page("model", model="invoice-extractor")
    assert "1,024 of 65,536 bytes [deltadex]" in page.error[0].value.replace("\\", "")
    assert "Upload the file again" in page.info[0].value
    assert "`deltadex retry invoice-extractor/1`" in text(page)


def test_a_merge_has_the_weights_of_its_adapter(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        adapter, merge = (embedded(tx, name, np.array([1.0, 0.0])) for name in ("adapter", "merge"))
        grouped(tx, [adapter, merge], kind=FindingKind.EXACT_DUPLICATE)
        reviews.follow(tx, load_settings())
    for name in ("adapter", "merge"):
        assert numbers(open_page("model", model=name))["Copies of its weights"] == "1"


def test_a_copy_names_the_version_that_it_is_a_copy_of(company: None, open_page: Open) -> None:
    page = open_page("model", model="vendor-agreements")
    assert numbers(page)["Copies of its weights"] == "1"
    [copy] = [button for button in page.button if button.key.startswith("copy-")]
    assert "contract\\-drafter/1" in copy.label
    copy.click().run()
    assert page.selectbox(key="model").value == "contract-drafter"
    assert page.query_params["model"] == "contract-drafter"
    assert page.query_params["version"] == "1"


def test_a_model_or_version_of_a_link_that_is_not_known_is_said(company: None, open_page: Open) -> None:
    assert "No model is chosen" in text(open_page("model"))
    assert "never-registered [x] is not known." in text(open_page("model", model="never-registered [x]", version="7"))
    page = open_page("model", model="help-centre", version="9")
    assert "There is no version 9. Shown is the newest, 3." in text(page)
    assert "help-centre/3" in page.subheader[0].value.replace("\\", "")


@pytest.mark.parametrize("state", [State.UNSUPPORTED, State.SKIPPED])
def test_versions_without_an_embedding_can_be_tried_again(store: Database, open_page: Open, state: State) -> None:
    with store.transaction() as tx:
        transitions.mark_ended(tx, discovered(tx, "odd"), state=state, reason="It is odd.", hint="")
    assert "`deltadex retry odd/1`" in text(open_page("model", model="odd"))


def test_long_names_end_in_an_ellipsis_with_the_whole_name_at_hand(store: Database, open_page: Open) -> None:
    name = "support-" * 12
    with store.transaction() as tx:
        embedded(tx, name, np.array([1.0, 0.0]))
        embedded(tx, "other", np.array([1.0, 0.1]))
    [neighbour] = [button for button in open_page("model", model="other").button if button.key.startswith("neighbour")]
    assert neighbour.label.endswith("…]")
    assert neighbour.proto.help.replace("\\", "") == f"{name}/1"


def test_probe_differences_have_the_probes_texts(company: None, open_page: Open) -> None:
    page = open_page("compare", a="storefront-localizer/3", b="storefront-localizer/2")
    shown = text(page)
    assert "They probably do different tasks" in shown
    assert "**Similarity -0." in shown
    [toggle] = [each for each in page.toggle if each.label == "Probe by probe"]
    toggle.set_value(True).run()
    assert "Below is an instruction" in page.table[-1].value["the probe's own text"].iloc[0]


def test_a_comparison_says_what_is_missing(company: None, open_page: Open) -> None:
    assert "Two versions are needed." in text(open_page("compare", a="help-centre/1"))
    assert "This is one version twice." in text(open_page("compare", a="help-centre/1", b="help-centre/1"))
    for unknown in ("nobody/1", "help-centre", "help-centre/99999999999", "help-centre/²"):
        assert f"{unknown} is not known" in text(open_page("compare", a=unknown, b="help-centre/1"))
    assert "They have different base models" in text(open_page("compare", a="legacy-queries/1", b="help-centre/1"))


def ownership_of(store: Database, name: str) -> Ownership | None:
    with store.transaction() as tx:
        return owners.of_model(tx, ADMIN, load_settings(), name)


def test_a_person_states_who_owns_a_model_and_attests_it(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        discovered(tx, "support", tags={"owner": "[x](http://x)"})
        discovered(tx, "other")
    page = open_page("model", model="support")
    assert "Owner **[x](http" in text(page)
    page.toggle(key="ownership").set_value(True).run()
    page.text_input(key="owner-of-support").set_value("ada")
    page.selectbox(key="tier-of-support").set_value("high")
    page.text_area(key="intended_use-of-support").set_value("answers\nto customers")
    [save] = [button for button in page.button if button.label == "Save"]
    save.click().run()
    assert "Saved." in page.success[0].value
    assert "Owner **ada** · high risk" in text(page)
    assert "attestation: missing" in text(page)
    page.button(key="attest").click().run()
    assert "attestation: current" in text(page)
    known = ownership_of(store, "support")
    assert known is not None
    assert known.intended_use == "answers\nto customers"
    # What was typed for one model is not in the form of another.
    page.selectbox(key="model").set_value("other").run()
    [save] = [button for button in page.button if button.label == "Save"]
    save.click().run()
    assert ownership_of(store, "other").owner == ""


def test_a_form_does_not_overwrite_what_another_person_has_stated(store: Database, open_page: Open) -> None:
    with store.transaction() as tx:
        discovered(tx, "support")
    page = open_page("model", model="support")
    page.toggle(key="ownership").set_value(True).run()
    page.text_input(key="owner-of-support").set_value("ada")
    with store.transaction() as tx:
        actions.edit(tx, ADMIN, load_settings(), "support", {OwnershipField.OWNER: "bo"})
    [save] = [button for button in page.button if button.label == "Save"]
    save.click().run()
    assert "not what you saw" in text(page)
    assert ownership_of(store, "support").owner == "bo"


def test_a_version_offers_its_evidence_pack(company: None, open_page: Open, tmp_path: Path) -> None:
    public = write_new_key(tmp_path / "evidence.key")
    page = open_page("model", model="storefront-localizer", version="3")
    page.button(key="evidence").click().run()
    [button] = page.get("download_button")
    assert button.proto.label == "Save the evidence pack"
    settings = load_settings()
    # The file itself comes by another request of the browser, which the test has no way to make.
    with Snapshot(settings, "", Person("ada", Role.ADMIN)).transaction() as tx:
        [row] = versions.find(tx, REGISTRY, "storefront-localizer", 3)
    packed = tmp_path / "pack.zip"
    packed.write_bytes(pages.evidence(Snapshot(settings, "", Person("ada", Role.ADMIN)), row.id))
    assert all(not one.is_failed for one in verify_pack(packed, public_key=public))


def test_a_pack_that_can_not_be_made_is_an_error_on_the_page(
    company: None, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELTADEX_EVIDENCE__KEY_FILE", "/nowhere/evidence.key")
    page = open_page("model", model="storefront-localizer", version="3")
    page.button(key="evidence").click().run()
    assert "evidence.key is not a file" in text(page)
    assert not page.get("download_button")
