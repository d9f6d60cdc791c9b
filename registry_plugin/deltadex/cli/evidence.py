"""The command `evidence`: packs about model versions, for people outside the house, and their verification."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from deltadex.access import Right
from deltadex.cli.options import DatabaseUrl, DataDir, Json, parse_label, settings_from
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain
from deltadex.versions import reads as versions
from deltadex.versions.labels import known_version, unknown

if TYPE_CHECKING:
    from deltadex.access import Person
    from deltadex.evidence.reproduce import Reproduction
    from deltadex.evidence.verify import PackCheck, PackHeading
    from deltadex.settings import Settings
    from deltadex.store.database import Transaction
    from deltadex.types import VersionRow

console = Console(highlight=False)

_FOUND_SOMETHING = 4
_HEAD = re.compile(r"[0-9]+:[0-9a-f]{64}")
_MARKS = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "–"}


class _WithoutCommand(TyperGroup):
    """A group with a default: `evidence NAME/VERSION` is `evidence make NAME/VERSION`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the command, except before another one and before `--help`."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["make", *args]
        return super().parse_args(ctx, args)


evidence = typer.Typer(
    name="evidence",
    cls=_WithoutCommand,
    help="Write what is known of a version as a signed pack for people outside, and verify packs.\n\n"
    "`deltadex evidence NAME/VERSION --output DIR` is short for `deltadex evidence make …`.",
    no_args_is_help=True,
)

PackPath = Annotated[Path, typer.Argument(metavar="PATH", help="A pack: a folder or a ZIP file.", exists=True)]


@evidence.command()
def make(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder or FILE.zip to write.", show_default=False)],
    label: Annotated[
        str | None, typer.Argument(metavar="NAME/VERSION", help="A version, or NAME@ALIAS.", show_default=False)
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help="All versions with this alias, each with a pack in the folder.")
    ] = None,
    after: Annotated[
        str, typer.Option(metavar="HEAD", help="Prove decisions from this earlier head on, not from the first entry.")
    ] = "",
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Don't sign.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write a pack about a version, as you may see it."""
    from deltadex.evidence.by_alias import packs_with_alias, write_packs
    from deltadex.evidence.pack import ZIP, evidence_pack, write_pack
    from deltadex.evidence.signing import required_signer
    from deltadex.evidence.time_stamp import time_stamper_of

    if (label is None) == (alias is None):
        raise typer.BadParameter("give either NAME/VERSION or --alias")
    if alias is not None and output.suffix == ZIP:
        raise typer.BadParameter("with --alias it is a folder of packs", param_hint="--output")
    with reading(data_dir, database_url) as (tx, viewer, settings):
        signer = None if unsigned else required_signer(settings)
        if alias is not None:
            packs = packs_with_alias(tx, viewer, settings, alias, after=after)
        else:
            version_id = _version(tx, viewer, settings, label or "").id
            packs = [evidence_pack(tx, viewer, settings, version_id, after=after)]
    stamper = time_stamper_of(settings) if signer else None
    if alias is not None:
        written = write_packs(packs, output, signer=signer, time_stamper=stamper)
    else:
        written = [write_pack(packs[0], output, signer=signer, time_stamper=stamper)]
    if json:
        signed = signer.place if signer else None
        print_json(
            [
                {"label": pack.label, "output": str(path), "signed_with": signed}
                for pack, path in zip(packs, written, strict=True)
            ]
        )
        return
    for pack, path in zip(packs, written, strict=True):
        how = f"signed by the key from {signer.place}" if signer else "[bold red]not signed[/]"
        console.print(f"{plain(path)}: {plain(pack.label)}, {how}", soft_wrap=True)


@evidence.command()
def verify(
    path: PackPath,
    key: Annotated[
        Path | None, typer.Option("--key", help="Public key of the house (PEM).", exists=True, dir_okay=False)
    ] = None,
    head: Annotated[
        str, typer.Option(metavar="NUMBER:HASH", help="A head of the log that you noted or that was published.")
    ] = "",
    tsa_ca: Annotated[
        Path | None,
        typer.Option(
            "--tsa-ca", help="Root certificates (PEM) of the time stamp's authority.", exists=True, dir_okay=False
        ),
    ] = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Check everything but the signature.")] = False,
    json: Json = False,
) -> None:
    """Check the signature, the digests and the decision log of a pack. Needs no service. Exits with 4 if one fails.

    A file that is no pack, or a damaged one, is an error, and exits with 1.
    """
    from deltadex.evidence.verify import heading_of, verify_pack

    if (key is None) != unsigned:
        raise typer.BadParameter("give either --key or --unsigned", param_hint="--key")
    if head and not _HEAD.fullmatch(head):
        raise typer.BadParameter("a head is a number, a colon and 64 hexadecimal digits", param_hint="--head")
    heading, checks = heading_of(path), verify_pack(path, public_key=key, head=head, time_roots=tsa_ca)
    if json:
        print_json([{"check": one.of, "is_passed": one.is_passed, "says": one.says} for one in checks])
    else:
        _show_checks(heading, checks)
    if any(one.is_failed for one in checks):
        raise typer.Exit(_FOUND_SOMETHING)


@evidence.command()
def reproduce(
    path: PackPath,
    model: Annotated[Path, typer.Option(help="Folder of the finetune.", exists=True, file_okay=False)],
    base: Annotated[Path, typer.Option(help="Folder of its base.", exists=True, file_okay=False)],
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Embed the model of a verified pack again, and compare within the noise. Exits with 4 if it differs."""
    from deltadex.evidence.reproduce import compare, packed_embedding
    from deltadex.local_embedding import embed

    packed = packed_embedding(path)
    settings = settings_from(data_dir)
    limits = settings.embedding.model_copy(update={"compute_dtype": packed.dtype})
    made = embed(
        model, base=base, method=packed.method_name, settings=settings.model_copy(update={"embedding": limits})
    )
    found = compare(packed, made)
    if json:
        print_json(_as_json(found))
    else:
        _show(found)
    if not found.is_reproduced:
        raise typer.Exit(_FOUND_SOMETHING)


@evidence.command("new-key")
def new_key(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File of the private key.", show_default="evidence.key of the data folder"),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Write a new key that signs packs, and the public key beside it, which you publish."""
    from deltadex.access import at_terminal
    from deltadex.evidence.signing import key_file, write_new_key

    settings = settings_from(data_dir)
    at_terminal(settings).require(Right.ADMINISTER)
    path = output or key_file(settings)
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    public = write_new_key(path)
    console.print(f"{plain(path)}: the key that signs. Keep it secret.", soft_wrap=True)
    console.print(f"{plain(public)}: the key that verifies. Publish it where packs don't come from.", soft_wrap=True)


def _version(tx: Transaction, viewer: Person, settings: Settings, label: str) -> VersionRow:
    name, _, alias = label.rpartition("@")
    if not name or "/" in alias:
        return known_version(tx, viewer, settings.registry, *parse_label(label))
    for row in versions.find(tx, viewer, settings.registry, name):
        if alias in row.registered.aliases:
            return row
    raise unknown(label)


def _show_checks(heading: PackHeading, checks: Sequence[PackCheck]) -> None:
    console.print(
        f"A pack that says it is about {plain(heading.label)} of {plain(heading.registry)}, made by "
        f"{plain(heading.asked_by)} at {plain(heading.made_at)}"
    )
    table = Table("check", "", "found")
    for one in checks:
        table.add_row(one.of, _MARKS[one.is_passed], plain(one.says))
    console.print(table)
    console.print("The head of the log in the pack, to compare:")
    console.print(plain(heading.head) or "none: the log is empty", soft_wrap=True)
    failed = [one.of for one in checks if one.is_failed]
    if failed:
        console.print(f"[bold red]Not verified:[/] {', '.join(failed)}")
    elif checks[0].is_passed is None:
        console.print("[bold]Its parts belong together. Without a key nothing says who made them.[/]")
    else:
        console.print("[green]Verified:[/] the pack is as the holder of the key signed it.")


def _as_json(found: Reproduction) -> dict[str, Any]:
    return {
        "label": found.label,
        "is_reproduced": found.is_reproduced,
        "difference": None if found.problem else found.difference,
        "allowed": None if found.problem else found.allowed,
        "similarity": None if found.problem else found.similarity,
        "problem": found.problem,
    }


def _show(found: Reproduction) -> None:
    if found.problem:
        console.print(f"[bold red]{plain(found.label)} can't be compared[/]: {plain(found.problem)}")
        return
    verdict = "[green]reproduced[/]" if found.is_reproduced else "[bold red]not reproduced[/]"
    console.print(
        f"{plain(found.label)}: {verdict}. The vectors differ by {found.difference:.2e} of the base's norm, noise "
        f"allows {found.allowed:.2e}; cosine similarity {found.similarity:.7f}."
    )
