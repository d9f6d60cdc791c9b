"""Packs: what is in them, for whom, and that the schemas and the stock signing tool accept them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import spdx_python_model

from deltadex.access import HIDDEN
from deltadex.engine.probes import PUBLISHED
from deltadex.errors import DeltadexError, EvidenceError, GovernanceError, SettingsError
from deltadex.evidence import ml_bom
from deltadex.evidence.clauses import frameworks
from deltadex.evidence.pack import evidence_pack, write_pack, zip_name, zipped
from deltadex.evidence.sections import SECTIONS
from deltadex.evidence.signing import signer_of
from deltadex.evidence.verify import verify_pack
from deltadex.reviews.chain import verify as verify_log
from deltadex.reviews.chain import verify_part
from deltadex.types import State
from deltadex.versions import transitions
from tests.evidence.conftest import EVE, House
from tests.safety import states
from tests.safety.test_queries import measured
from tests.stored import ADMIN, discovered

SECRETS = ("merger", "rumour", "secret", "board")


def read(folder: Path, name: str) -> dict[str, object]:
    return json.loads((folder / name).read_text())


def test_the_stock_tool_verifies_a_pack_and_refuses_a_changed_one(house: House, tmp_path: Path) -> None:
    with zipfile.ZipFile(write_pack(house.pack(), tmp_path / "x.zip", signer=signer_of(house.settings))) as archive:
        archive.extractall(tmp_path)
    copied = tmp_path / "evidence-sql-writer-2"
    command = [
        sys.executable, "-m", "model_signing", "verify", "key", str(copied), "--signature", str(copied / "pack.sig"),
        "--public_key", str(house.public_key),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "succeeded" in done.stdout + done.stderr) == (0, True), done.stderr
    (copied / "findings.json").write_text("{}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "findings.json" in done.stderr


def test_a_pack_has_every_section_and_a_list_of_their_digests(house: House, signed: Path) -> None:
    there = {one.name for one in signed.iterdir()}
    # Nobody measured safety: what was not done has no file.
    assert there == {section.path for section in SECTIONS} - {"safety.json"} | {"README.txt", "pack.json", "pack.sig"}
    index = read(signed, "pack.json")
    assert set(index["files"]) == there - {"pack.json", "pack.sig"}
    assert (index["model"], index["version"], index["asked_by"]) == ("sql-writer", 2, "ada")
    assert index["time"]["vouched_for_by"] == "nobody"
    note = (signed / "README.txt").read_text()
    assert "vouched for by nobody" in note
    assert hashlib.sha256(house.public_key.read_bytes()).hexdigest() in note


def test_the_ml_bom_is_valid_and_names_ancestors_with_measured_confidence(signed: Path) -> None:
    text = (signed / "bom.cdx.json").read_text()
    ml_bom.validate(text)
    model = json.loads(text)["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "sql-writer", "2")
    assert model["licenses"][0]["license"]["id"] == "Apache-2.0"
    ancestors = {
        (one["name"], said["deltadex:relation"]): (one, said)
        for one in model["pedigree"]["ancestors"]
        for said in [{each["name"]: each["value"] for each in one["properties"]}]
    }
    base, _ = ancestors["base", "base of"]
    assert base["licenses"][0]["license"]["name"] == "acme-internal"
    _, trained = ancestors["sql-writer/1", "trained on as"]
    assert trained["deltadex:known-by"] == "measurement"
    assert float(trained["deltadex:p"]) < 1e-6
    card = model["modelCard"]
    assert card["quantitativeAnalysis"]["performanceMetrics"] == [{"type": "eval_loss", "value": "0.5"}]
    assert card["considerations"]["useCases"] == ["Reports."]
    assert card["modelParameters"]["datasets"][0]["name"] == "data set, training"
    with pytest.raises(EvidenceError, match="not valid CycloneDX"):
        ml_bom.validate(text.replace('"performanceMetrics"', '"metrics"'))


def test_the_spdx_document_is_read_back_by_the_bindings(signed: Path) -> None:
    spdx, found = spdx_python_model.load(signed / "bom.spdx.json")
    packages = {each.name: each for each in found.foreach_type(spdx.ai_AIPackage)}
    model = packages["sql-writer"]
    assert model.software_packageVersion == "2"
    assert model.ai_informationAboutApplication == "Reports."
    assert [(one.key, one.value) for one in model.ai_hyperparameter] == [("learning_rate", "0.0002")]
    relations = {
        str(one.relationshipType).rsplit("/", 1)[-1]
        for one in found.foreach_type(spdx.Relationship)
        if one.from_ is model or one.from_ == model._id
    }
    assert relations == {"descendantOf", "trainedOn", "hasDeclaredLicense", "hasConcludedLicense"}
    licensed = {
        one.simplelicensing_licenseExpression for one in found.foreach_type(spdx.simplelicensing_LicenseExpression)
    }
    assert licensed == {"Apache-2.0", "LicenseRef-acme-internal"}


def test_training_findings_and_lineage_are_as_stored(signed: Path) -> None:
    training = read(signed, "training.json")
    assert training["licenses"] == {"finetune": "apache-2.0", "base": "acme-internal", "base_name": "base"}
    assert (training["parameters"], training["metrics"]) == ({"learning_rate": "0.0002"}, {"eval_loss": 0.5})
    owned = read(signed, "ownership.json")
    assert (owned["intended_use"]["value"], owned["owner"]["value"]) == ("Reports.", "data | *team*")
    drifted = next(one for one in read(signed, "findings.json")["findings"] if one["kind"] == "drift")
    assert (drifted["measure"], drifted["threshold"], drifted["unit"]) == (0.9, 0.5, "cosine distance")
    relations = {(one["relation"], one["known_by"]) for one in read(signed, "lineage.json")["relations"]}
    assert relations >= {("base of", "declaration"), ("trained on as", "measurement"), ("next version", "declaration")}
    embedding = read(signed, "embedding.json")["embeddings"][0]
    assert embedding["recipe"]["method"]["name"] == PUBLISHED.name
    assert len(embedding["vector"]) == embedding["recipe"]["dimension"] == 8


def test_pictures_are_svg_and_their_texts_are_no_markup(house: House, signed: Path) -> None:
    for name in ("neighbors.svg", "drift.svg", "lineage.svg"):
        tree = ElementTree.parse(signed / name)  # noqa: S314
        assert tree.getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert not list(tree.iter("{http://www.w3.org/2000/svg}script"))
    with house.database.transaction() as tx:
        tx.execute("update model_versions set name = %s where id = %s", ["<script>\ufffe\x01</b>", house.ids[2]])
        odd = evidence_pack(tx, ADMIN, house.settings, house.ids[1])
        tx.rollback()
    root = ElementTree.fromstring(odd.files["neighbors.svg"])  # noqa: S314
    assert "<script>" in "".join(root.itertext())
    assert "<script>" not in odd.files["neighbors.svg"] + odd.files["model-card.md"]


def test_the_card_shows_names_and_tags_as_they_are(signed: Path) -> None:
    card = (signed / "model-card.md").read_text()
    assert r"data \| \*team\*" in card
    assert "&lt;b>sql&lt;/b>" in card
    assert "We meant it" in card
    assert "| Reports. |" in card
    assert "| 0.0002 |" in card
    assert "| apache-2.0 |" in card
    assert "\N{WORD JOINER}" not in card


def test_decisions_are_proven_without_anybody_elses_text(house: House) -> None:
    told = json.loads(house.pack(EVE).files["decisions.json"])
    assert [one["comment"] for one in told["decisions"]] == ["We meant it."]
    assert told["undisclosed"] == 2
    with house.database.transaction() as tx:
        head = verify_log(tx).head
    assert verify_part(told["log"]) == told["log"]["head"] == head
    everything = json.loads(house.pack().files["decisions.json"])
    assert len(everything["decisions"]) == 2, "those about other versions are not in it either"
    assert everything["log"]["head"] == head


def test_a_pack_that_begins_behind_a_head_tells_all_decisions_or_none(house: House) -> None:
    head = str(house.pack().index["log_head"])
    with pytest.raises(GovernanceError, match="is before the head"):
        house.pack(after=head)


def test_whom_a_model_is_hidden_from_gets_pseudonyms(house: House) -> None:
    pack = house.pack(EVE)
    everything = "\n".join(pack.files.values()).casefold()
    assert not [word for word in SECRETS if word in everything]
    [hidden] = {one.split('"')[0] for one in pack.files["findings.json"].split('"hidden-')[1:]}
    assert f"hidden-{hidden}" in pack.files["neighbors.svg"]
    assert f"hidden-{hidden}" in house.pack(EVE).files["model-card.md"].replace("\\", ""), "the same in every pack"
    settings = house.settings.model_copy(
        update={"evidence": house.settings.evidence.model_copy(update={"pseudonym_key": None})}
    )
    with pytest.raises(SettingsError, match="no key for pseudonyms"):
        replace(house, settings=settings).pack(EVE)
    assert "merger-rumour/1" in replace(house, settings=settings).pack().files["neighbors.svg"]
    with house.database.transaction() as tx, pytest.raises(DeltadexError, match="not known"):
        evidence_pack(tx, EVE, house.settings, house.ids[2])


@pytest.mark.parametrize(
    "source", ["models:/merger-rumour/1", "models:/merger-rumour@champion", "Models://merger-rumour/2"]
)
def test_a_copy_of_a_hidden_version_does_not_name_it(house: House, source: str) -> None:
    with house.database.transaction() as tx:
        copy = discovered(tx, "sql-writer", version=3, source=source)
        pack = evidence_pack(tx, EVE, house.settings, copy)
        seen = evidence_pack(tx, ADMIN, house.settings, copy)
        tx.rollback()
    assert not [word for word in SECRETS if word in "".join(pack.files.values()).casefold()]
    shown = json.loads(pack.files["embedding.json"])["source"]
    assert shown.startswith("hidden-") if source == "models:/merger-rumour/1" else shown == HIDDEN
    assert json.loads(seen.files["embedding.json"])["source"] == source


@pytest.mark.parametrize("source", ["models:/m-0f3c", "models:/sql-writer/1", "runs:/abc/model@1", "s3://models/x/1"])
def test_a_source_that_names_no_hidden_model_is_shown(house: House, source: str) -> None:
    with house.database.transaction() as tx:
        pack = evidence_pack(tx, EVE, house.settings, discovered(tx, "sql-writer", version=3, source=source))
        tx.rollback()
    assert json.loads(pack.files["embedding.json"])["source"] == source


def test_another_key_gives_other_pseudonyms(house: House) -> None:
    sealed = house.settings.model_copy(
        update={
            "evidence": house.settings.evidence.model_copy(update={"pseudonym_key": None}),
            "artifact_key": type(house.settings.evidence.pseudonym_key)("a" * 32),
        }
    )
    one, other = (each.pack(EVE).files["neighbors.svg"] for each in (house, replace(house, settings=sealed)))
    assert one.split("hidden-")[1][:16] != other.split("hidden-")[1][:16]


def test_a_pack_is_made_in_five_seconds(house: House, tmp_path: Path) -> None:
    house.pack()  # the libraries are imported
    started, used = time.perf_counter(), time.process_time()
    write_pack(house.pack(), tmp_path / "pack.zip", signer=signer_of(house.settings))
    seconds, used = time.perf_counter() - started, time.process_time() - used
    sys.stderr.write(f"a pack in {seconds:.2f} s, {used:.2f} CPU seconds\n")
    assert used < 5


def test_a_zip_file_has_the_same_files_and_nothing_is_overwritten(house: House, signed: Path, tmp_path: Path) -> None:
    packed = tmp_path / "pack.zip"
    packed.write_bytes(zipped(house.pack(), signer=signer_of(house.settings)))
    assert all(not one.is_failed for one in verify_pack(packed, public_key=house.public_key))
    with zipfile.ZipFile(packed) as archive:
        assert set(archive.namelist()) == {f"evidence-sql-writer-2/{one.name}" for one in signed.iterdir()}
    with pytest.raises(EvidenceError, match="there already"):
        write_pack(house.pack(), packed, signer=None)


def test_names_of_zip_files_are_different_and_short() -> None:
    assert zip_name("sql-writer/3") == "evidence-sql-writer-3.zip"
    labels = ["模型/1", "型模/1", "a b/1", "a-b/1", f"{'x' * 256}/1", f"{'x' * 256}/2"]
    names = {zip_name(label) for label in labels}
    assert len(names) == len(labels)
    assert all(name.isascii() and len(name) < 200 for name in names)


@pytest.mark.parametrize("state", [None, State.FAILED, State.UNSUPPORTED, State.SKIPPED, State.DELETED])
def test_a_version_that_was_not_embedded_has_a_pack(house: House, tmp_path: Path, state: State | None) -> None:
    with house.database.transaction() as tx:
        version_id = discovered(tx, "sql-writer", version=3)
        if state:
            transitions.mark_ended(tx, version_id, state=state, reason="the weights are truncated")
        pack = evidence_pack(tx, ADMIN, house.settings, version_id)
        tx.rollback()
    assert "not embedded" in pack.files["model-card.md"]
    folder = write_pack(pack, tmp_path / "pack", signer=signer_of(house.settings))
    assert all(not one.is_failed for one in verify_pack(folder, public_key=house.public_key))


def test_an_unsigned_pack_says_so(house: House, tmp_path: Path) -> None:
    folder = write_pack(house.pack(), tmp_path / "pack", signer=None)
    assert "NOT SIGNED" in (folder / "README.txt").read_text()
    assert read(folder, "pack.json")["signed_with"] is None
    signature, *others = verify_pack(folder, public_key=house.public_key)
    assert (signature.is_passed, "not signed" in signature.says) == (False, True)
    assert all(not one.is_failed for one in others)


def test_what_was_measured_on_request_is_in_a_file_of_its_own(house: House) -> None:
    assert "safety.json" not in house.pack().files
    with house.database.transaction() as tx:
        measured(tx, states.base(), house.ids[1])
        told = json.loads(evidence_pack(tx, ADMIN, house.settings, house.ids[1]).files["safety.json"])
        tx.rollback()
    assert told["has_collapsed"] is False
    assert "base_digest" not in told, "the recipe's is over the prompts' tokens too"
    assert told["threshold"]["value"] == house.settings.safety.least_kept
    assert 0 < told["kept"]["value"] < 2


def test_each_clause_names_files_that_exist_and_claims_nothing_without_them(signed: Path) -> None:
    known = {section.path for section in SECTIONS} | {"README.txt"}
    for framework in frameworks():
        for row in framework.clauses:
            assert set(filter(None, row.files.split(", "))) <= known, row
            assert row.has if row.files else not row.has, row
            assert row.missing, row
    assert "no claim that a clause is fulfilled" in (signed / "clauses.md").read_text()


def answers(files: Mapping[str, str]) -> dict[str, str]:
    """Return what the table of clauses says is in a pack, by clause."""
    rows = [line.split(" | ") for line in files["clauses.md"].splitlines() if line.startswith("| ")]
    return {row[0].removeprefix("| "): row[4] for row in rows}


def test_clauses_say_what_this_pack_lacks(house: House) -> None:
    said = answers(house.pack().files)
    assert said["2(h)"] == said["1, 1(c)"] == said["A.6.2.8"] == "yes"
    assert said["Governance and controls"] == "partly: no risk tier, no current attestation"
    assert said["1(b)–(h)"] == said["MEASURE 2.6"] == "no"
    with house.database.transaction() as tx:
        measured(tx, states.base(), house.ids[1])
        assert answers(evidence_pack(tx, ADMIN, house.settings, house.ids[1]).files)["MEASURE 2.6"] == "yes"
        bare = answers(evidence_pack(tx, ADMIN, house.settings, discovered(tx, "bare")).files)
        tx.rollback()
    assert bare["Governance and controls"] == bare["GOVERN 1.4, 1.6"] == bare["A.6.2.8"] == "no"
    assert bare["Third-party models"] == bare["1, 1(f)"] == bare["6"] == "no"
    assert bare["1, 1(c)"] == "partly: no aliases"
