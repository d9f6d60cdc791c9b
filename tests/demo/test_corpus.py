from itertools import combinations
from pathlib import Path

import pytest

from deltadex.demo import corpus
from deltadex.errors import DeltadexError


@pytest.mark.parametrize("domain", corpus.DOMAINS)
def test_parts_of_a_domain_share_no_file_and_no_text(domain: str) -> None:
    parts = corpus.read_domain(domain)
    assert len(parts) == corpus.PARTS
    for one, other in combinations(parts, 2):
        assert not {document.path for document in one} & {document.path for document in other}
        assert not {document.text for document in one} & {document.text for document in other}


@pytest.mark.parametrize("domain", corpus.DOMAINS)
def test_parts_of_a_domain_are_of_about_equal_size_and_large_enough_to_train_on(domain: str) -> None:
    sizes = [sum(len(document.text) for document in part) for part in corpus.read_domain(domain)]
    assert min(sizes) > 20_000
    assert max(sizes) < 1.2 * min(sizes)


def test_the_same_text_is_read_every_time() -> None:
    assert corpus.read_domain("legal") == corpus.read_domain("legal")
    assert corpus.read_general() == corpus.read_general()


def test_the_base_never_reads_what_finetunes_are_trained_on() -> None:
    general = {document.path for document in corpus.read_general()}
    for domain in corpus.DOMAINS:
        first, *others = corpus.read_domain(domain)
        assert {document.path for document in first} <= general
        assert not general & {document.path for part in others for document in part}


def test_licences_that_differ_in_their_copyright_line_only_are_one_document_and_others_are_not_read(
    tmp_path: Path,
) -> None:
    packages = ["altair", "docker", "httpx", "mako", "numpy", "pandas", "pyarrow", "torch", "another-dependency"]
    for index, package in enumerate(packages):
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "LICENSE").write_text(f"Copyright {index} the authors\n\nTerms number {index // 2}.\n")
    paths = [document.path for part in corpus.read_domain("legal", root=tmp_path) for document in part]
    assert len(paths) == 4


def test_an_environment_without_the_text_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DeltadexError, match="'sql'") as caught:
        corpus.read_domain("sql", root=tmp_path)
    assert "lock file" in caught.value.hint
