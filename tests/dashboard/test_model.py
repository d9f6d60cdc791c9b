"""The page of one registered model."""

from __future__ import annotations

import re

import numpy as np

from deltadex.reviews import actions as reviews
from deltadex.settings import load_settings
from deltadex.store.database import Database
from deltadex.types import FindingKind
from tests.dashboard.conftest import Open
from tests.dashboard.seen import numbers, text
from tests.stored import embedded, grouped


def test_a_link_opens_one_version_of_a_model(company: None, open_page: Open) -> None:
    page = open_page("model", model="storefront-localizer", version="3")
    assert "storefront-localizer/3" in page.subheader[0].value.replace("\\", "")
    assert "this version is far from the one before" in text(page)
    before = text(open_page("model", model="storefront-localizer", version="2"))
    assert "the next version is far from this one" in before
    for heading in ("Neighbours", "Lineage", "Versions", "History"):
        assert heading in text(page)
    facts = [row for table in page.dataframe for row in table.value.values.tolist()]
    assert ["run", "run-storefront-localizer-3"] in facts
    assert ["tag domain", "legal"] in facts
    assert ["declared: follows", "storefront-localizer/2"] in facts
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


def test_a_model_that_is_gone_leads_to_the_choice(company: None, open_page: Open) -> None:
    assert "No model is chosen" in text(open_page("model", model="never-registered", version="7"))
