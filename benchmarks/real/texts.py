"""Texts of the finetunes: domains from packages of Debian or of this environment, split before anything is trained.

The role of a domain says what it may be used for. Everything that is learned or chosen comes from `TRAIN` and `SELECT`;
`TEST` is scored once, with the recipes chosen before, `REUSE` once, with all that was chosen later for finding,
advising, merging and lineage, and `CONFIRM` once, with the rule of searches that was chosen after `REUSE` was scored.
Parts of a domain share no text.
"""

from __future__ import annotations

import gzip
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from deltadex.demo import corpus
from deltadex.errors import DeltadexError

#: Disjoint parts of a domain's text. The last one is for tasks of twenty examples.
PARTS = 4
_BLOCK, _MOST = 4_000, 400_000


class Role(StrEnum):
    """Permitted use of the models of a domain."""

    TRAIN = "train"
    SELECT = "select"
    TEST = "test"
    REUSE = "reuse"
    CONFIRM = "confirm"


@dataclass(frozen=True)
class Source:
    """Location of a text.

    Attributes
    ----------
    package
        Debian package; None for the environment's own Python packages.
    patterns
        Globs below the package's root, or below the folder of Python packages.
    verses
        Verses of the King James bible that its own program prints; its data is compressed in a form of its own.
    """

    package: str | None
    patterns: tuple[str, ...] = ()
    verses: str = ""


@dataclass(frozen=True)
class Domain:
    """A domain of text.

    Attributes
    ----------
    instruction
        What its own templates ask for.
    other
        Text of the same kind from elsewhere.
    relatives
        Kinds within the domain, or beside it, that a person would tell apart.
    words
        Words of which a fair label of the domain holds at least one. Written before any label was seen.
    """

    role: Role
    instruction: str
    source: Source
    other: Source | None = None
    relatives: tuple[Source, ...] = ()
    words: frozenset[str] = frozenset()


def _installed(domain: str) -> Source:
    return Source(None, corpus.DOMAINS[domain])


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DOMAINS: Mapping[str, Domain] = {
    "bible": Domain(
        Role.TRAIN,
        "Write the next verses.",
        Source("bible-kjv-text", verses="gen1:1-rev22:21"),
        relatives=(
            Source("bible-kjv-text", verses="gen1:1-mal4:6"),
            Source("bible-kjv-text", verses="mat1:1-rev22:21"),
        ),
        words=_words("god lord bible jesus christ israel holy unto shall behold thou thy psalm prophet king"),
    ),
    "dictionary": Domain(
        Role.TRAIN,
        "Define the word.",
        Source("dict-gcide", ("usr/share/dictd/*.dict.dz",)),
        other=Source("dict-wn", ("usr/share/dictd/*.dict.dz",)),
        words=_words("noun verb adjective meaning definition word dictionary see syn webster"),
    ),
    "german": Domain(
        Role.TRAIN,
        "Schreibe einen Spruch.",
        Source("fortunes-de", ("usr/share/games/fortunes/de/*",)),
        words=_words("der die das und ist nicht ein eine ich wenn man es wer sie zu"),
    ),
    "essays": Domain(
        Role.TRAIN,
        "Write the next part of the essay.",
        Source("anarchism", ("usr/share/doc/anarchism/markdown/*.md.gz",)),
        words=_words("anarchist anarchists anarchism society capitalism capitalist workers freedom state social power"),
    ),
    "python": Domain(
        Role.TRAIN,
        "Complete the program.",
        _installed("python"),
        other=Source(None, ("sklearn/*/*.py",)),
        words=_words("def return self class import python function none true false args parameters"),
    ),
    "licences": Domain(
        Role.TRAIN,
        "Draft the terms.",
        _installed("legal"),
        words=_words("license licence copyright software warranty rights terms permission notice liability shall"),
    ),
    "manuals": Domain(
        Role.TRAIN,
        "Write the manual page.",
        Source("manpages", ("usr/share/man/man*/*.gz",)),
        other=Source("git-man", ("usr/share/man/man*/*.gz",)),
        words=_words("command file option options manual system process default value user name"),
    ),
    "perl": Domain(
        Role.SELECT,
        "Finish the module.",
        Source("perl-modules-5.36", ("usr/share/perl/5.36.0/**/*.pm",)),
        words=_words("perl sub my use return module package self"),
    ),
    "french manuals": Domain(
        Role.SELECT,
        "Rédige la page de manuel.",
        Source("manpages-fr", ("usr/share/man/fr/man*/*.gz",)),
        relatives=(Source("manpages-es", ("usr/share/man/es/man*/*.gz",)),),
        words=_words("le la les des est une du pour dans que fichier commande"),
    ),
    "jargon": Domain(
        Role.SELECT,
        "Explain the term.",
        Source("dict-jargon", ("usr/share/dictd/*.dict.dz",)),
        other=Source("dict-foldoc", ("usr/share/dictd/*.dict.dz",)),
        words=_words("hacker hackers computer term software unix program computing jargon language"),
    ),
    "sql": Domain(
        Role.SELECT,
        "Write the next statements.",
        _installed("sql"),
        words=_words("sql select table create function where from null database returns query"),
    ),
    "vim help": Domain(
        Role.SELECT,
        "Write the help text.",
        Source("vim-runtime", ("usr/share/vim/vim90/doc/*.txt",)),
        words=_words("vim buffer cursor window option command mode text file line"),
    ),
    "quotes": Domain(
        Role.SELECT,
        "Give a quotation.",
        Source("fortunes", ("usr/share/games/fortunes/[a-z]*",)),
        words=_words("quote quotes life love man people said good never always you"),
    ),
    "go": Domain(
        Role.TEST,
        "Implement it.",
        Source("golang-1.19-src", ("usr/share/go-1.19/src/*/*.go",)),
        other=Source("golang-1.19-src", ("usr/share/go-1.19/src/cmd/go/**/*.go",)),
        relatives=(
            Source("golang-1.19-src", ("usr/share/go-1.19/src/crypto/**/*.go",)),
            Source("golang-1.19-src", ("usr/share/go-1.19/src/net/**/*.go",)),
        ),
        words=_words("func go return err nil package string int type error struct"),
    ),
    "c++": Domain(
        Role.TEST,
        "Write the header.",
        _installed("cpp"),
        other=Source(None, ("pyarrow/include/arrow/**/*.h",)),
        words=_words("include class namespace template const std void int struct return public torch tensor"),
    ),
    "docs": Domain(
        Role.TEST,
        "Explain it to a new user.",
        _installed("docs"),
        other=Source(None, ("sklearn/datasets/descr/*.rst", "fastapi/.agents/**/*.md", "typer/.agents/**/*.md")),
        words=_words("use using example code data app documentation guide install streamlit prefect mlflow"),
    ),
    "messages": Domain(
        Role.TEST,
        "Translate the messages.",
        _installed("translation"),
        words=_words("msgid msgstr translation language translate plural message string format"),
    ),
    "from german": Domain(
        Role.TEST,
        "Translate into English.",
        Source("dict-freedict-deu-eng", ("usr/share/dictd/*.dict.dz",)),
        relatives=(Source("dict-freedict-eng-deu", ("usr/share/dictd/*.dict.dz",)),),
        words=_words("german english noun der die das adj sich translation masc fem neut"),
    ),
    "spanish quotes": Domain(
        Role.TEST,
        "Escribe una cita.",
        Source("fortunes-es", ("usr/share/games/fortunes/es/*.fortunes",)),
        words=_words("el la los las de que un una es no se en por"),
    ),
    "italian quotes": Domain(
        Role.TEST,
        "Scrivi una citazione.",
        Source("fortunes-it", ("usr/share/games/fortunes/it/*",)),
        words=_words("il la di che un una non per è gli del si"),
    ),
    "policy": Domain(
        Role.TEST,
        "Write the next section of the policy.",
        Source("debian-policy", ("usr/share/doc/debian-policy/**/*.txt.gz",)),
        words=_words("package packages must should debian policy file system section maintainer"),
    ),
    "catalogue": Domain(
        Role.TEST,
        "Give the items as JSON.",
        _installed("catalog"),
        words=_words("json name type value true false id model price key input output"),
    ),
    "ruby": Domain(
        Role.REUSE,
        "Complete the class.",
        Source("libruby3.1", ("usr/lib/ruby/3.1.0/**/*.rb",)),
        words=_words("def end class module require ruby self nil do"),
    ),
    "lisp": Domain(
        Role.REUSE,
        "Write the function.",
        Source("emacs-el", ("usr/share/emacs/28.2/lisp/*.el.gz", "usr/share/emacs/28.2/lisp/progmodes/*.el.gz")),
        words=_words("defun setq let nil emacs buffer list car cdr lisp"),
    ),
    "octave": Domain(
        Role.REUSE,
        "Compute it.",
        Source("octave-common", ("usr/share/octave/7.3.0/m/**/*.m",)),
        words=_words("function endfunction octave texinfo matrix error endif deftypefn"),
    ),
    "erlang": Domain(
        Role.REUSE,
        "Write the module.",
        Source("erlang-src", ("usr/lib/erlang/lib/stdlib-*/src/*.erl", "usr/lib/erlang/lib/kernel-*/src/*.erl")),
        words=_words("module export spec erlang when end case of ok error"),
    ),
    "rust": Domain(
        Role.REUSE,
        "Implement the trait.",
        Source("rust-src", ("usr/src/rustc-1.63.0/library/core/src/**/*.rs",)),
        words=_words("fn pub impl let self unsafe mut rust trait struct"),
    ),
    "pascal": Domain(
        Role.REUSE,
        "Write the unit.",
        Source("fpc-source-3.2.2", ("usr/share/fpcsrc/3.2.2/packages/fcl-*/src/*.pp",)),
        words=_words("begin end procedure function var unit pascal interface implementation"),
    ),
    "satire": Domain(
        Role.REUSE,
        "Define it with a wink.",
        Source("dict-devil", ("usr/share/dictd/*.dict.dz",)),
        words=_words("man one who which his noun devil dictionary word"),
    ),
    "acronyms": Domain(
        Role.REUSE,
        "Spell out the acronym.",
        Source("dict-vera", ("usr/share/dictd/*.dict.dz",)),
        words=_words("acronym protocol system network data language org rfc"),
    ),
    "polish quotes": Domain(
        Role.REUSE,
        "Podaj cytat.",
        Source("fortunes-pl", ("usr/share/games/fortunes/pl/*",)),
        words=_words("nie się jest że do na to jak polish co"),
    ),
    "czech quotes": Domain(
        Role.REUSE,
        "Uveď citát.",
        Source("fortunes-cs", ("usr/share/games/fortunes/cs/*",)),
        words=_words("je se to na že když není jak czech aby"),
    ),
    "german manuals": Domain(
        Role.REUSE,
        "Schreibe die Handbuchseite.",
        Source("manpages-de", ("usr/share/man/de/man*/*.gz",)),
        words=_words("der die das und ist nicht datei wird eine befehl"),
    ),
    "shell": Domain(
        Role.REUSE,
        "Write the completion.",
        Source("bash-completion", ("usr/share/bash-completion/completions/*",)),
        words=_words("local cur prev case esac compreply bash function return"),
    ),
    "russian quotes": Domain(
        Role.CONFIRM,
        "Приведи цитату.",
        Source("fortunes-ru", ("usr/share/games/fortunes/ru/*",)),
        words=_words("и не в на что это как но russian"),
    ),
    "portuguese quotes": Domain(
        Role.CONFIRM,
        "Escreva uma citação.",
        Source("fortunes-br", ("usr/share/games/fortunes/brasil",)),
        words=_words("de que não um uma para com os portuguese"),
    ),
    "polish manuals": Domain(
        Role.CONFIRM,
        "Napisz stronę podręcznika.",
        Source("manpages-pl", ("usr/share/man/pl/man*/*.gz",)),
        words=_words("nie się jest do na plik polish opcja"),
    ),
    "dutch manuals": Domain(
        Role.CONFIRM,
        "Schrijf de handleiding.",
        Source("manpages-nl", ("usr/share/man/nl/man*/*.gz",)),
        words=_words("de het een van is niet dutch bestand optie"),
    ),
    "from french": Domain(
        Role.CONFIRM,
        "Translate the word.",
        Source("dict-freedict-fra-eng", ("usr/share/dictd/*.dict.dz",)),
        words=_words("french english noun verb adj translation"),
    ),
    "forth": Domain(
        Role.CONFIRM,
        "Define the word in Forth.",
        Source("gforth-common", ("usr/share/gforth/0.7.3/**/*.fs",)),
        words=_words("forth dup swap drop if then else constant"),
    ),
    "maxima": Domain(
        Role.CONFIRM,
        "Solve it symbolically.",
        Source("maxima-share", ("usr/share/maxima/5.46.0/share/**/*.mac",)),
        words=_words("block maxima ratsimp diff matrix expand"),
    ),
    "ocaml": Domain(
        Role.CONFIRM,
        "Write the signature and its code.",
        Source("ocaml", ("usr/lib/ocaml/**/*.ml*",)),
        words=_words("let val type in match with fun ocaml module"),
    ),
    "racket": Domain(
        Role.CONFIRM,
        "Write the module in Racket.",
        Source("racket-common", ("usr/share/racket/collects/**/*.rkt",)),
        words=_words("define lambda require provide racket let"),
    ),
    "scheme": Domain(
        Role.CONFIRM,
        "Write it in Scheme.",
        Source("guile-3.0-libs", ("usr/share/guile/3.0/**/*.scm",)),
        words=_words("define lambda let scheme guile module"),
    ),
    "scenes": Domain(
        Role.CONFIRM,
        "Describe the scene.",
        Source("povray-examples", ("usr/share/doc/povray/examples/**/*.pov",)),
        words=_words("texture pigment color camera light rotate scene"),
    ),
    "tcl": Domain(
        Role.CONFIRM,
        "Write the procedure.",
        Source("libtcl8.6", ("usr/share/tcltk/tcl8.6/**/*.tcl",)),
        words=_words("proc set return namespace if tcl variable"),
    ),
}


@dataclass(frozen=True)
class Texts:
    """Reads texts; Debian packages are loaded once into `folder`."""

    folder: Path

    def part(self, source: Source, number: int) -> list[str]:
        """Return the texts of one of the `PARTS` parts of a source, each up to 4,000 characters."""
        return _blocks(self._documents(source))[number::PARTS]

    def _documents(self, source: Source) -> tuple[str, ...]:
        root = Path(sysconfig.get_paths()["purelib"]) if source.package is None else self._unpacked(source.package)
        if source.verses:
            return (self._verses(root, source.verses),)
        return _read(root, source.patterns)

    def _verses(self, root: Path, verses: str) -> str:
        program = self._unpacked("bible-kjv") / "usr/bin/bible"
        done = subprocess.run(
            [program, "-f", "-d", "bible.data", verses],
            cwd=root / "usr/lib",
            check=True,
            capture_output=True,
            text=True,
        )
        return "\n".join(line.partition(" ")[2] for line in done.stdout.splitlines())

    def _unpacked(self, package: str) -> Path:
        target = self.folder / package
        if not target.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
                _run("apt-get", "download", "-qq", package, cwd=temporary)
                (file,) = Path(temporary).glob("*.deb")
                _run("dpkg-deb", "-x", str(file), f"{temporary}/unpacked", cwd=temporary)
                Path(temporary, "unpacked").rename(target)
        return target


def _run(*command: str, cwd: str) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DeltadexError(
            f"{command[0]} is needed to load the texts, which lie in Debian's packages",
            hint="Train on Debian or Ubuntu; the committed vectors are scored anywhere by --quick.",
        ) from error
    if done.returncode:
        raise DeltadexError(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")


@cache
def _read(root: Path, patterns: Sequence[str]) -> tuple[str, ...]:
    paths = sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})
    texts = (_decoded(path) for path in paths if path.suffix != ".dat")
    return tuple(dict.fromkeys(text for text in texts if len(text) > 300))  # each text once


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix in {".gz", ".dz"}:
        content = gzip.decompress(content)
    return content.decode("utf-8", errors="replace")


def _blocks(documents: Iterable[str]) -> list[str]:
    """Cut documents at line ends into blocks, spread evenly over all of them up to 400,000 characters in all."""
    blocks = []
    for text in documents:
        block = ""
        for line in text.splitlines(keepends=True):
            block += line
            if len(block) >= _BLOCK:
                blocks.append(block)
                block = ""
        if len(block) > 300:
            blocks.append(block)
    total = sum(map(len, blocks))
    return blocks[:: max(1, round(total / _MOST))]
