"""Keys that sign packs: their places, passwords and curves."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from deltadex.errors import EvidenceError, SettingsError
from deltadex.evidence.pack import write_pack
from deltadex.evidence.signing import TIME_STAMP, KeyPlace, check_signature, signer_of, write_new_key
from deltadex.evidence.time_stamp import stamp, time_stamper_of
from deltadex.evidence.verify import CheckOf, verify_pack
from deltadex.settings import Settings
from tests.evidence.conftest import House


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "a.txt").write_text("a")
    return tmp_path / "pack"


def made_key(curve: ec.EllipticCurve, encryption: KeySerializationEncryption, public: Path) -> str:
    key = ec.generate_private_key(curve)
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def test_a_new_key_is_for_its_user_only_and_replaces_none(tmp_path: Path) -> None:
    public = write_new_key(tmp_path / "evidence.key")
    assert stat.S_IMODE((tmp_path / "evidence.key").stat().st_mode) == 0o600
    serialization.load_pem_public_key(public.read_bytes())
    with pytest.raises(EvidenceError, match="there already"):
        write_new_key(tmp_path / "evidence.key")
    kept = public.read_bytes()
    with pytest.raises(EvidenceError, match=r"evidence\.pub is there already"):
        write_new_key(tmp_path / "evidence.2027")  # its public key would have the name of the old one
    with pytest.raises(EvidenceError, match="both keys"):
        write_new_key(tmp_path / "new.pub")
    assert public.read_bytes() == kept
    assert {each.name for each in tmp_path.iterdir()} == {"evidence.key", "evidence.pub"}


@pytest.mark.parametrize("password", [None, "hunter2"])
def test_a_key_signs_from_a_variable(folder: Path, tmp_path: Path, password: str | None) -> None:
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    key = made_key(ec.SECP384R1(), encryption, tmp_path / "key.pub")
    settings = Settings(data_dir=tmp_path, evidence={"key": key, "key_password": password})
    signer = signer_of(settings)
    assert signer is not None
    assert signer.place is KeyPlace.VARIABLE
    signer.sign(folder)
    check_signature(folder, tmp_path / "key.pub")
    assert "PRIVATE" not in repr(settings)


def test_a_key_signs_from_the_file_of_the_settings_or_of_the_data_folder(folder: Path, tmp_path: Path) -> None:
    assert signer_of(Settings(data_dir=tmp_path)) is None
    with pytest.raises(SettingsError, match="not a file"):
        signer_of(Settings(data_dir=tmp_path, evidence={"key_file": tmp_path / "none.key"}))
    named = write_new_key(tmp_path / "named.key")
    own = write_new_key(tmp_path / "evidence.key")
    for settings, public in (({"key_file": tmp_path / "named.key"}, named), ({}, own)):
        signer = signer_of(Settings(data_dir=tmp_path, evidence=settings))
        assert signer is not None
        assert signer.place is KeyPlace.FILE
        signer.sign(folder)
        check_signature(folder, public)
        (folder / "pack.sig").unlink()


@pytest.mark.parametrize(
    "key", ["no key", made_key(ec.SECP256K1(), NoEncryption(), Path("/dev/null"))], ids=["none", "another curve"]
)
def test_a_key_of_another_kind_is_an_error(folder: Path, tmp_path: Path, key: str) -> None:
    signer = signer_of(Settings(data_dir=tmp_path, evidence={"key": key}))
    assert signer is not None
    with pytest.raises(EvidenceError, match="can't be signed with the key of environment") as caught:
        signer.sign(folder)
    assert key not in caught.value.message
    assert "P-256" in caught.value.hint


def test_a_token_needs_its_package(folder: Path, tmp_path: Path) -> None:
    uri = "pkcs11:token=house;object=evidence?module-name=softhsm2&pin-value=1234"
    signer = signer_of(Settings(data_dir=tmp_path, evidence={"pkcs11_uri": uri}))
    assert signer is not None
    assert signer.place is KeyPlace.PKCS11
    with pytest.raises(EvidenceError, match="PKCS #11"):
        signer.sign(folder)


def test_a_time_is_vouched_for_by_an_authority_that_is_believed(
    house: House, authority: tuple[str, Path], tmp_path: Path
) -> None:
    address, root = authority
    url = address.removeprefix("tsa+")
    chosen = house.settings.evidence.model_copy(update={"time_stamp_url": url})
    stamper = time_stamper_of(house.settings.model_copy(update={"evidence": chosen}))
    pack = write_pack(house.pack(), tmp_path / "pack", signer=signer_of(house.settings), time_stamper=stamper)

    def time_of(pack: Path, roots: Path | None) -> tuple[bool, str]:
        checks = {one.of: one for one in verify_pack(pack, public_key=house.public_key, time_roots=roots)}
        assert all(one.is_passed for of, one in checks.items() if of is not CheckOf.TIME), checks
        return checks[CheckOf.TIME].is_passed, checks[CheckOf.TIME].says

    assert time_of(pack, root)[0]
    assert "which the authority vouches for" in time_of(pack, root)[1]
    assert "not checked without --tsa-ca" in time_of(pack, None)[1]
    _, unsigned, *_ = verify_pack(pack, public_key=None, time_roots=root)
    assert "whether it is one of these files was not checked" in unsigned.says
    other = write_pack(house.pack(), tmp_path / "other", signer=signer_of(house.settings))
    assert time_of(other, root) == (False, "There is no time stamp of a signature")
    for forged in ((pack / TIME_STAMP).read_bytes(), b"no stamp"):  # of the other pack's signature, and of nothing
        (other / TIME_STAMP).write_bytes(forged)
        assert time_of(other, root)[0] is False
    assert time_of(pack, house.public_key)[0] is False, "an authority that is not believed"
    with pytest.raises(EvidenceError, match="did not answer") as caught:
        stamp(b"x", "http://user:hunter2@127.0.0.1:9/")
    assert "hunter2" not in caught.value.message


def test_a_time_stamp_is_of_the_signature_and_leaves_it_valid(house: House, tmp_path: Path) -> None:
    stamped: list[bytes] = []

    def stamper(message: bytes) -> bytes:
        stamped.append(message)
        return b"a response"

    pack = write_pack(house.pack(), tmp_path / "pack", signer=signer_of(house.settings), time_stamper=stamper)
    assert stamped == [(pack / "pack.sig").read_bytes()]
    assert (pack / TIME_STAMP).read_bytes() == b"a response"
    assert "vouched for by the time stamp authority" in (pack / "README.txt").read_text()
    check_signature(pack, house.public_key)
