from deltadex.analysis.domains import name_cluster
from deltadex.domain import ModelVersionRef, RegisteredVersion


def version(name, **tags):
    return RegisteredVersion(ModelVersionRef("r", name, 1, 0), "s", tags=tags)


def test_the_domain_tag_of_most_members_names_the_cluster():
    name = name_cluster(2, [version("a", domain="sql"), version("b", domain="sql"), version("c", domain="law")])

    assert name.text == "sql"
    assert "2 of 3" in name.origin


def test_a_word_in_most_names_is_used_without_a_tag():
    name = name_cluster(0, [version("acme/legal-lora-1"), version("legal_v2"), version("other", domain="x")])

    assert name.text == "legal"
    assert "names" in name.origin


def test_words_about_the_making_name_nothing():
    assert name_cluster(2, [version("team-lora"), version("team-lora-two"), version("lora")]).text == "cluster 3"


def test_no_majority_means_a_number():
    name = name_cluster(0, [version("a", domain="sql"), version("b", domain="law")])

    assert name.text == "cluster 1"
    assert "no tag or word" in name.origin


def test_one_member_saying_a_word_twice_counts_once():
    assert name_cluster(0, [version("tax-tax-tax"), version("law"), version("art")]).text == "cluster 1"


def test_an_empty_cluster_has_a_number():
    assert name_cluster(4, []).text == "cluster 5"
