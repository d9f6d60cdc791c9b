"""Packs as folders and ZIP files: written with an index, a note on how to verify them, and a signature."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from deltadex.access import Person
from deltadex.errors import EvidenceError
from deltadex.evidence.facts import EvidenceFacts, facts
from deltadex.evidence.sections import SECTIONS, contents
from deltadex.evidence.signing import SIGNATURE, TIME_STAMP, PackSigner, TimeStamper
from deltadex.evidence.source import PackSource, as_json
from deltadex.evidence.templates import templates
from deltadex.settings import Settings
from deltadex.store.database import Transaction

FORMAT = "deltadex-evidence/1"
INDEX = "pack.json"
READ_ME = "README.txt"
ZIP = ".zip"
_LONGEST_NAME = 150


@dataclass(frozen=True)
class EvidencePack:
    """A pack that is not written yet.

    Attributes
    ----------
    label
        `name/version` of the version.
    files
        Text of each file by its path, without index, note and signature.
    index
        What `pack.json` says besides the files' digests and the signature.
    """

    label: str
    files: Mapping[str, str]
    index: Mapping[str, object]


def evidence_pack(
    tx: Transaction, viewer: Person, settings: Settings, version_id: int, *, after: str = ""
) -> EvidencePack:
    """Return the pack of a version as the viewer may see it; raises as `deltadex.evidence.facts.facts` does.

    Parameters
    ----------
    after
        As in `facts`.
    """
    known = facts(tx, viewer, settings, version_id, after=after)
    return EvidencePack(known.label, contents(PackSource(tx, viewer, settings, known)), _index(known))


def write_pack(
    pack: EvidencePack, output: Path, *, signer: PackSigner | None, time_stamper: TimeStamper | None = None
) -> Path:
    """Write a pack as a folder, or as a ZIP file if the name ends in `.zip`; it is there in full or not at all.

    Parameters
    ----------
    signer
        None writes a pack without a signature, which says so.
    time_stamper
        Asked to stamp the signature; None leaves the time as this machine states it.

    Raises
    ------
    EvidenceError
        There is something at `output`, or the pack can't be signed.
    """
    if output.exists():
        raise EvidenceError(f"{output} is there already", hint="Name another folder or file.")
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".deltadex-", dir=output.absolute().parent) as place:
        folder = Path(place) / "pack"
        folder.mkdir()
        _fill(folder, pack, signer, is_stamped=signer is not None and time_stamper is not None)
        if signer is not None:
            signer.sign(folder)
            if time_stamper is not None:
                (folder / TIME_STAMP).write_bytes(time_stamper((folder / SIGNATURE).read_bytes()))
        if output.suffix == ZIP:
            packed = Path(place) / "packed"
            _zip(folder, packed, top=zip_name(pack.label).removesuffix(ZIP))
            packed.replace(output)
        else:
            shutil.move(folder, output)
    return output


def zip_name(label: str) -> str:
    """Return the name of the ZIP file of a version's pack, in characters that every system takes.

    Names that then look alike, or are too long for a file, are told apart by a digest.
    """
    plain = "".join(each if each.isascii() and (each.isalnum() or each in "-_.") else "-" for each in label)
    if plain != label.replace("/", "-") or len(plain) > _LONGEST_NAME:
        plain = f"{plain[:_LONGEST_NAME]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return f"evidence-{plain}{ZIP}"


def zipped(pack: EvidencePack, *, signer: PackSigner | None, time_stamper: TimeStamper | None = None) -> bytes:
    """Return a pack as the bytes of a ZIP file; raises as `write_pack` does."""
    with tempfile.TemporaryDirectory(prefix="deltadex-") as place:
        return write_pack(pack, Path(place) / f"pack{ZIP}", signer=signer, time_stamper=time_stamper).read_bytes()


def _index(known: EvidenceFacts) -> dict[str, object]:
    row = known.version.registered.ref
    return {
        "format": FORMAT,
        "deltadex": version("deltadex"),
        "registry": known.registry,
        "model": row.name,
        "version": row.version,
        "created_ms": row.created_ms,
        "asked_by": known.asked_by,
        "made_at": known.made_at.isoformat(),
        "log_head": known.log["head"],
        "log_starts_behind": known.log["start"],
    }


def _fill(folder: Path, pack: EvidencePack, signer: PackSigner | None, *, is_stamped: bool) -> None:
    says = [(section.path, section.says) for section in SECTIONS if section.path in pack.files]
    note = templates(is_markup=False).get_template("readme.txt.jinja").render(
        label=pack.label, says=says, signed_with=signer.place.value if signer else "", index=pack.index,
        fingerprint=signer.fingerprint() if signer else "",
        is_stamped=is_stamped,
    )  # fmt: skip
    texts = {**pack.files, READ_ME: note}
    for path, text in texts.items():
        # As it is, on every system: the digests are over these bytes.
        (folder / path).write_bytes(text.encode())
    time = {
        "stated": pack.index["made_at"],
        "stated_by": "the clock of the machine that made the pack",
        "vouched_for_by": f"a time stamp authority, if {TIME_STAMP} verifies" if is_stamped else "nobody",
    }
    index = {
        **pack.index,
        "time": time,
        "signed_with": signer.place if signer else None,
        "files": {path: hashlib.sha256(text.encode()).hexdigest() for path, text in sorted(texts.items())},
    }
    (folder / INDEX).write_bytes(as_json(index).encode())


def _zip(folder: Path, file: Path, *, top: str) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(folder.iterdir()):
            archive.write(each, f"{top}/{each.name}")
