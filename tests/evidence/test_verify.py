"""Forged packs: whatever is changed, added, removed or exchanged is refused, and it is said what."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deltadex.errors import EvidenceError, SettingsError
from deltadex.evidence import opened
from deltadex.evidence.decisions import summary
from deltadex.evidence.sections import SECTIONS
from deltadex.evidence.signing import signer_of, write_new_key
from deltadex.evidence.verify import CheckOf, PackCheck, heading_of, verify_pack
from deltadex.reviews.chain import texts_digest, verify_part
from tests.evidence.conftest import House

FILES = [*(one.path for one in SECTIONS if one.path != "safety.json"), "README.txt", "pack.json"]


def failed(pack: Path, key: Path | None, head: str = "") -> dict[CheckOf, str]:
    return {one.of: one.says for one in verify_pack(pack, public_key=key, head=head) if one.is_failed}


def changed_json(path: Path, change: Callable[[dict], None]) -> None:
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def signed_again(house: House, folder: Path) -> None:
    """Let somebody who has the key write index and signature anew, as only the house can."""
    digests = {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest()
        for one in folder.iterdir()
        if one.name not in ("pack.json", "pack.sig")
    }
    changed_json(folder / "pack.json", lambda index: index.update(files=digests))
    (folder / "pack.sig").unlink()
    signer = signer_of(house.settings)
    assert signer is not None
    signer.sign(folder)


def test_a_pack_as_it_was_made_passes_every_check(house: House, signed: Path) -> None:
    checks = verify_pack(signed, public_key=house.public_key)
    assert [one.of for one in checks] == list(CheckOf)
    assert all(isinstance(one, PackCheck) and not one.is_failed for one in checks), checks


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_in_any_file_is_refused(house: House, copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    # A letter of the text, so that the file remains what it was.
    place = next(at for at, byte in enumerate(content) if chr(byte).isalpha() and at > len(content) // 2)
    content[place] ^= 0x20
    (copied / name).write_bytes(bytes(content))
    says = failed(copied, house.public_key)
    assert name in says[CheckOf.SIGNATURE]
    assert name == "pack.json" or name in says[CheckOf.DIGESTS]


@pytest.mark.parametrize("name", ["extra.txt", ".gitignore", ".gitattributes"])
def test_an_added_file_is_refused(house: House, copied: Path, name: str) -> None:
    (copied / name).write_text("x")
    says = failed(copied, house.public_key)
    assert name in says[CheckOf.SIGNATURE]
    assert name in says[CheckOf.DIGESTS]


@pytest.mark.parametrize("name", FILES[:-1])
def test_a_removed_file_is_refused(house: House, copied: Path, name: str) -> None:
    (copied / name).unlink()
    says = failed(copied, house.public_key)
    assert name in says[CheckOf.SIGNATURE]
    assert name in says[CheckOf.DIGESTS]


def test_a_pack_without_index_or_signature_is_refused(house: House, copied: Path) -> None:
    (copied / "pack.sig").unlink()
    assert "not signed" in failed(copied, house.public_key)[CheckOf.SIGNATURE]
    (copied / "pack.json").unlink()
    with pytest.raises(EvidenceError, match=r"pack\.json can't be read"):
        verify_pack(copied, public_key=house.public_key)


def test_the_signature_of_another_key_is_refused(house: House, copied: Path, tmp_path: Path) -> None:
    other = write_new_key(tmp_path / "other.key")
    assert "signed by another key" in failed(copied, other)[CheckOf.SIGNATURE]
    # The key is another one, and the hint in the bundle says that it is the house's.
    bundle = json.loads((copied / "pack.sig").read_text())
    bundle["verificationMaterial"]["publicKey"]["hint"] = hashlib.sha256(other.read_bytes()).hexdigest()
    (copied / "pack.sig").write_text(json.dumps(bundle))
    assert "not by this key" in failed(copied, other)[CheckOf.SIGNATURE]


def test_a_file_that_is_no_public_key_says_nothing_of_the_pack(house: House, signed: Path, tmp_path: Path) -> None:
    (tmp_path / "nonsense.pub").write_text("nonsense")
    for key in (tmp_path / "nonsense.pub", house.public_key.with_suffix(".key")):
        with pytest.raises(SettingsError, match="is no public key"):
            verify_pack(signed, public_key=key)


def test_what_was_not_checked_has_neither_passed_nor_failed(signed: Path) -> None:
    checks = {one.of: one for one in verify_pack(signed, public_key=None)}
    assert [of for of, one in checks.items() if one.is_passed is None] == [CheckOf.SIGNATURE, CheckOf.TIME]
    assert not any(one.is_failed for one in checks.values())


def test_a_pack_says_what_it_is_about_and_its_whole_head(house: House, signed: Path) -> None:
    heading, head = heading_of(signed), house.pack().index["log_head"]
    assert (heading.label, heading.registry, heading.asked_by) == ("sql-writer/2", "acme", "ada")
    assert heading.head == head
    said = {one.of: one.says for one in verify_pack(signed, public_key=house.public_key, head=str(head))}
    assert str(head) in said[CheckOf.CHAIN]


def test_a_signature_of_another_pack_or_of_nonsense_is_refused(house: House, copied: Path) -> None:
    for nonsense in ("", "{}", "[1]", '{"verificationMaterial": {}}'):
        (copied / "pack.sig").write_text(nonsense)
        assert CheckOf.SIGNATURE in failed(copied, house.public_key), nonsense


def _exchange(told: dict) -> None:
    entries = told["log"]["entries"]
    entries[0], entries[1] = entries[1], entries[0]


def _reword(told: dict) -> None:
    entry = next(one for one in told["log"]["entries"] if not isinstance(one, str))
    entry["entry"]["reviewer"] = "nobody"


def _recomment(told: dict) -> None:
    entry = next(one for one in told["log"]["entries"] if not isinstance(one, str))
    entry["text"]["comment"] = "nicer"


def _cut(told: dict) -> None:
    told["log"]["entries"].pop()


def _insert(told: dict) -> None:
    told["log"]["entries"].insert(0, "0" * 64)


def _tell(told: dict) -> None:
    told["decisions"][0]["comment"] = "nicer"


def _nonsense(told: dict) -> None:
    told["log"]["entries"] = [{"entry": {}}]


FORGED = [_exchange, _reword, _recomment, _cut, _insert, _tell, _nonsense]


@pytest.mark.parametrize("forge", FORGED, ids=lambda forge: forge.__name__)
def test_a_forged_log_is_refused_even_if_it_is_signed_again(
    house: House, copied: Path, forge: Callable[[dict], None]
) -> None:
    changed_json(copied / "decisions.json", forge)
    signed_again(house, copied)
    says = failed(copied, house.public_key)
    assert set(says) == {CheckOf.CHAIN}, says


def test_a_log_that_was_written_anew_is_refused_by_a_published_head(house: House, copied: Path) -> None:
    told = json.loads((copied / "decisions.json").read_text())
    published = told["log"]["head"]
    number, previous = 1, ""
    between = []
    for one in told["log"]["entries"]:
        digest = one if isinstance(one, str) else texts_digest(*one["entry"].values())
        previous = texts_digest(previous, digest)
        between.append(f"{number}:{previous}")
        number += 1
    assert between[-1] == published
    assert not failed(copied, house.public_key, published)

    def forge(told: dict) -> None:
        told["log"]["entries"][0] = "0" * 64 if isinstance(told["log"]["entries"][0], str) else _forged(told)
        told["log"]["head"] = verify_part(told["log"])
        told["decisions"] = [
            shown
            for shown in told["decisions"]
            if any(not isinstance(one, str) and one["entry"]["id"] == shown["id"] for one in told["log"]["entries"])
        ]

    def _forged(told: dict) -> str:
        return "0" * 64

    changed_json(copied / "decisions.json", forge)
    head = json.loads((copied / "decisions.json").read_text())["log"]["head"]
    changed_json(copied / "pack.json", lambda index: index.update(log_head=head))
    signed_again(house, copied)
    assert not failed(copied, house.public_key), "nothing in the pack shows it"
    assert "does not pass through" in failed(copied, house.public_key, published)[CheckOf.CHAIN]


@pytest.mark.parametrize("begins_behind", [False, True])
def test_decisions_after_a_published_head_are_not_proven_by_it(house: House, copied: Path, begins_behind: bool) -> None:
    published = json.loads((copied / "pack.json").read_text())["log_head"]

    def forge(told: dict) -> None:
        entries = told["log"]["entries"]
        forged = copy.deepcopy(next(one for one in entries if not isinstance(one, str)))
        forged["entry"] |= {"id": "999", "reviewer": "the board", "text_digest": texts_digest("s", "Never said.")}
        forged["text"] = {"salt": "s", "comment": "Never said."}
        entries.append(forged)
        told["decisions"].append(summary(forged))
        if begins_behind:
            number, _, known = published.partition(":")
            told["log"] |= {"start": {"number": int(number), "hash": known}, "entries": entries[-1:]}
            told["decisions"] = told["decisions"][-1:]
        told["log"]["head"] = verify_part(told["log"])

    changed_json(copied / "decisions.json", forge)
    head = json.loads((copied / "decisions.json").read_text())["log"]["head"]
    changed_json(copied / "pack.json", lambda index: index.update(log_head=head))
    signed_again(house, copied)
    assert not failed(copied, house.public_key, head)
    says = failed(copied, house.public_key, published)[CheckOf.CHAIN]
    assert f"decisions, 1 of them after the head {published}, which does not prove" in says
    assert "a head that the house published later" in says


def test_a_link_or_a_folder_in_a_pack_is_refused(house: House, copied: Path) -> None:
    (copied / "link").symlink_to(copied / "README.txt")
    with pytest.raises(EvidenceError, match="link, which is no plain file"):
        verify_pack(copied, public_key=house.public_key)
    (copied / "link").unlink()
    (copied / "folder").mkdir()
    with pytest.raises(EvidenceError, match="folder, which is no plain file"):
        verify_pack(copied, public_key=house.public_key)


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/../b", "a/b/c", "a/..", "a\\b", ".."])
def test_a_zip_file_writes_nothing_outside(house: House, tmp_path: Path, name: str) -> None:
    packed = tmp_path / "pack.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(EvidenceError, match="no plain file name"):
        verify_pack(packed, public_key=house.public_key)


def test_a_zip_file_with_a_name_twice_or_too_large_is_refused(
    house: House, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "pack"), "zip", copied))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("pack.json", "{}")
    with pytest.raises(EvidenceError, match="a name twice"):
        verify_pack(packed, public_key=house.public_key)
    whole = Path(shutil.make_archive(str(tmp_path / "whole"), "zip", copied))
    monkeypatch.setattr(opened, "MOST_BYTES", 1000)
    with pytest.raises(EvidenceError, match="too large"):
        verify_pack(whole, public_key=house.public_key)
    with pytest.raises(EvidenceError, match="too large"):
        verify_pack(copied, public_key=house.public_key)
    (tmp_path / "no.zip").write_bytes(b"no")
    with pytest.raises(EvidenceError, match="neither a folder nor a ZIP"):
        verify_pack(tmp_path / "no.zip", public_key=house.public_key)


def test_a_damaged_zip_file_is_refused(house: House, tmp_path: Path) -> None:
    packed = tmp_path / "pack.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pack.json", "x" * 1000)
    start = 30 + len("pack.json")  # the local header and the name come first
    content = bytearray(packed.read_bytes())
    for damaged in (start, 30):  # the content, or a name that differs from the one in the directory
        content[damaged] ^= 0xFF
        packed.write_bytes(content)
        with pytest.raises(EvidenceError, match=r"neither a folder nor a ZIP file$"):
            verify_pack(packed, public_key=house.public_key)
