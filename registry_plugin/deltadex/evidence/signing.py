"""Signatures of packs by OpenSSF model-signing, in key mode: no network is needed.

The stock tool verifies them: `python -m model_signing verify key PACK --signature PACK/pack.sig --public_key KEY.pub`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from deltadex.errors import EvidenceError, SettingsError
from deltadex.evidence.extra import evidence_extra
from deltadex.settings import EVIDENCE_KEY_FILE, Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from model_signing.signing import Config

SIGNATURE = "pack.sig"
#: A time stamp of the signature, which can only be made after it: neither file is in the signed list.
TIME_STAMP = "pack.sig.tsr"
_ASK_FOR_KEY = "Ask the house for its public key."
_UNSIGNED_FILES = (SIGNATURE, TIME_STAMP)

#: Function that lets an authority stamp bytes: it returns the DER of an RFC 3161 response.
TimeStamper = Callable[[bytes], bytes]


class KeyPlace(StrEnum):
    """Place of the key that signs."""

    PKCS11 = "PKCS #11"
    VARIABLE = "environment"
    FILE = "file"
    KEYLESS = "Sigstore"


@dataclass(frozen=True)
class PackSigner:
    """A key that signs packs, by the place where it is."""

    place: KeyPlace
    settings: Settings

    def sign(self, folder: Path) -> None:
        """Write the signature of all files of a folder into it.

        Raises
        ------
        EvidenceError
            The key can't be read or can't sign, or a package is missing.
        """
        with evidence_extra():
            from model_signing import hashing, signing
        # Files of git are left out by default: one that is added would not be noticed.
        files = hashing.Config().set_ignored_paths(paths=_UNSIGNED_FILES, ignore_git_paths=False)
        try:
            with self._keyed(signing.Config()) as config:
                config.set_hashing_config(files).sign(folder, folder / SIGNATURE)
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise EvidenceError(
                f"The pack can't be signed with the key of {self.place}: {error}",
                hint="Packs are signed by EC keys (P-256, P-384, P-521) in PEM: see docs/evidence.md.",
            ) from error

    def fingerprint(self) -> str:
        """Return the SHA-256 of the public key, as `fingerprint_of`; empty for a key that does not leave its place."""
        if self.place not in (KeyPlace.VARIABLE, KeyPlace.FILE):
            return ""
        with evidence_extra():
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        chosen = self.settings.evidence
        password = chosen.key_password.get_secret_value().encode() if chosen.key_password else None
        try:
            pem = chosen.key.get_secret_value().encode() if chosen.key else key_file(self.settings).read_bytes()
            return _fingerprint(load_pem_private_key(pem, password).public_key())
        except (ValueError, TypeError, OSError):
            return ""  # `sign` says what is wrong with the key.

    @contextmanager
    def _keyed(self, config: Config) -> Iterator[Config]:
        chosen = self.settings.evidence
        password = chosen.key_password.get_secret_value().encode() if chosen.key_password else None
        match self.place:
            case KeyPlace.PKCS11:
                assert chosen.pkcs11_uri is not None  # noqa: S101 - `signer_of` chose it for that
                uri = chosen.pkcs11_uri.get_secret_value()
                yield config.use_pkcs11_signer(pkcs11_uri=uri, module_paths=chosen.pkcs11_modules)
            case KeyPlace.VARIABLE:
                assert chosen.key is not None  # noqa: S101 - as before
                with _as_file(chosen.key.get_secret_value()) as path:
                    # The library passes the password on to cryptography, which wants bytes.
                    yield config.use_elliptic_key_signer(private_key=path, password=password)  # type: ignore[arg-type]
            case KeyPlace.FILE:
                path = key_file(self.settings)
                yield config.use_elliptic_key_signer(private_key=path, password=password)  # type: ignore[arg-type]
            case KeyPlace.KEYLESS:
                yield config.use_sigstore_signer(use_ambient_credentials=True)


def signer_of(settings: Settings) -> PackSigner | None:
    """Return the signer that the settings name; None if there is no key.

    Raises
    ------
    SettingsError
        The settings name a file that is not there.
    """
    chosen = settings.evidence
    if chosen.keyless:
        return PackSigner(KeyPlace.KEYLESS, settings)
    if chosen.pkcs11_uri is not None:
        return PackSigner(KeyPlace.PKCS11, settings)
    if chosen.key is not None:
        return PackSigner(KeyPlace.VARIABLE, settings)
    if key_file(settings).is_file():
        return PackSigner(KeyPlace.FILE, settings)
    if chosen.key_file is not None:
        raise SettingsError(f"{chosen.key_file} is not a file", hint="`deltadex evidence new-key` writes one.")
    return None


def required_signer(settings: Settings) -> PackSigner:
    """Return the signer that the settings name; raises SettingsError if there is none."""
    signer = signer_of(settings)
    if signer is None:
        raise SettingsError(
            "There is no key that signs packs", hint="`deltadex evidence new-key` makes one; --unsigned does without."
        )
    return signer


def key_file(settings: Settings) -> Path:
    """Return where the key that signs is, or would be."""
    return settings.evidence.key_file or settings.data_dir / EVIDENCE_KEY_FILE


def write_new_key(path: Path) -> Path:
    """Write a new P-256 key for its user only, and the public key beside it; return the latter's path.

    Raises
    ------
    EvidenceError
        There is a private or public key already: packs that it signed would lose it. Or `path` itself ends in `.pub`.
    """
    public = path.with_suffix(".pub")
    if public.exists() or public == path:
        raise EvidenceError(
            f"{public} is there already, or is to hold both keys",
            hint="The public key takes this name: name another file, and see docs/evidence.md.",
        )
    with evidence_extra():
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    private = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    written = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    try:
        place = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise EvidenceError(f"{path} is there already", hint="Name another file, and see docs/evidence.md.") from error
    with os.fdopen(place, "wb") as file:
        file.write(written)
    form_of_public = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(private.public_key().public_bytes(serialization.Encoding.PEM, form_of_public))
    return public


def fingerprint_of(public_key: Path) -> str:
    """Return the hex SHA-256 of a public key in PEM, by which a signature names its key.

    Raises
    ------
    SettingsError
        The file holds no public key.
    """
    with evidence_extra():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    try:
        return _fingerprint(load_pem_public_key(public_key.read_bytes()))
    except (ValueError, UnsupportedAlgorithm, OSError) as error:
        raise SettingsError(
            f"{public_key} is no public key in PEM", hint="The house publishes it, such as evidence.pub."
        ) from error


def check_signature(folder: Path, public_key: Path) -> None:
    """Check the signature of a folder, and that it has exactly the files that were signed.

    Raises
    ------
    EvidenceError
        The signature is missing, of another key, or of other files.
    """
    with evidence_extra():
        from cryptography.exceptions import InvalidSignature
        from model_signing import hashing, verifying
    if not (folder / SIGNATURE).is_file():
        raise EvidenceError("The pack is not signed", hint="Ask for a signed one.")
    # Named here and not read from the signature: the stock tool overlooks a `.gitignore` that was added.
    files = hashing.Config().set_ignored_paths(paths=_UNSIGNED_FILES, ignore_git_paths=False)
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key).set_hashing_config(files)
        config.verify(folder, folder / SIGNATURE)
    except InvalidSignature as error:
        raise EvidenceError("The signature is not by this key, or was changed", hint=_ASK_FOR_KEY) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        if str(error).startswith("Key mismatch"):
            raise EvidenceError("The pack was signed by another key than this one", hint=_ASK_FOR_KEY) from error
        odd = _differing(folder)
        what = f"The pack is not what was signed: {', '.join(odd)}" if odd else f"{SIGNATURE} is no signature of packs"
        raise EvidenceError(what, hint="Ask for another copy.") from error


def _differing(folder: Path) -> list[str]:
    """Return the files that were added, removed or changed after the signature; empty if it lists none."""
    try:
        bundle = json.loads((folder / SIGNATURE).read_bytes())
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        signed = {one["name"]: one["digest"] for one in statement["predicate"]["resources"]}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    there = {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest()
        for one in folder.iterdir()
        if one.name not in _UNSIGNED_FILES
    }
    return sorted(str(name) for name in signed.keys() | there if signed.get(name) != there.get(name))


def _fingerprint(public_key: PublicKeyTypes) -> str:
    with evidence_extra():
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


@contextmanager
def _as_file(key: str) -> Iterator[Path]:
    """Write a key where the library reads it from, for its user only, and remove it."""
    with tempfile.NamedTemporaryFile("w", prefix="deltadex-", suffix=".pem") as file:
        file.write(key)
        file.flush()
        yield Path(file.name)
