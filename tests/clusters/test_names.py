from deltadex.clusters.names import LabelOrigin, name_clusters
from deltadex.types import ModelVersionRef, RegisteredVersion, Word, Words


def version(name, **tags):
    return RegisteredVersion(ModelVersionRef("r", name, 1, 0), "s", tags=tags)


def name(*members):
    return name_clusters([members])[0]


def saying(*groups):
    """Clusters of versions without tags or telling names, each of which promotes some tokens."""
    members = [
        [(version(f"m{group}-{place}"), said) for place, said in enumerate(all_)] for group, all_ in enumerate(groups)
    ]
    words = {
        one.ref: Words(tuple(Word(text, 1.0) for text in said.split())) for group in members for one, said in group
    }
    return name_clusters([[one for one, _ in group] for group in members], words=words)


def test_the_domain_tag_of_most_members_names_the_cluster():
    named = name(version("a", domain="sql"), version("b", domain="sql"), version("c", domain="law"))
    assert named.text == "sql"
    assert "2 of 3" in named.origin


def test_the_domain_of_those_that_declare_one_names_the_cluster():
    silent = [version(f"m{number}") for number in range(4)]
    assert name(*[version(place, domain="sql") for place in "abc"], version("d", domain="law"), *silent).text == "sql"
    assert name(*[version(place, domain="sql") for place in "ab"], *silent).text == "cluster 1"


def test_a_cluster_of_several_declared_domains_is_named_by_them_and_not_by_a_word():
    domains = ["sql"] * 4 + ["code"] * 4 + ["docs"] * 3 + ["other"]
    named = name(*[version(f"self-{place}", domain=domain) for place, domain in enumerate(domains)])
    assert named.text == "code / sql / docs"
    assert named.origin == "tag domain of 11 of 12 versions"


def test_scraps_and_parts_of_other_tokens_name_nothing():
    code, law = saying(["re turn ret return #if"] * 2, ["whereas where"] * 2)
    assert code.text == "return"
    assert law.text == "whereas"


def test_a_word_in_most_names_is_used_without_a_tag():
    named = name(version("acme/legal-lora-1"), version("legal_v2"), version("other", domain="x"))
    assert named.text == "legal"
    assert "names" in named.origin


def test_a_word_of_the_data_sets_is_used_where_names_say_nothing():
    named = name(version("one", dataset="pubmed-2024"), version("two", dataset="pubmed/small"), version("three"))
    assert (named.text, named.of(LabelOrigin.DATA_SET)) == ("pubmed", ["pubmed"])
    assert "data set names of 2 of 3" in named.origin


def test_words_about_the_making_name_nothing():
    assert (
        name_clusters([[], [], [version("team-lora"), version("team-lora-two"), version("lora")]])[2].text
        == "cluster 3"
    )


def test_no_majority_means_a_number():
    named = name(version("a", domain="sql"), version("b", domain="law"))
    assert named.text == "cluster 1"
    assert "no tag, word or token" in named.origin


def test_one_member_saying_a_word_twice_counts_once():
    assert name(version("tax-tax-tax"), version("law"), version("art")).text == "cluster 1"


def test_an_empty_cluster_has_a_number():
    assert name().text == "cluster 1"


def test_without_any_metadata_tokens_name_a_cluster_and_say_so():
    code, law = saying(
        ["return def self the", "def the return", "def return x"], ["whereas the shall", "shall the", "shall y"]
    )
    assert code.text == "def return the"
    assert law.text.split()[0] == "shall"
    assert "promote" in code.origin


def test_brackets_are_terms_and_no_name():
    code, _ = saying(["( ([ return", "( ([ return"], ["whereas", "whereas"])
    assert code.text == "return"
    assert {"(", "(["} < set(code.of(LabelOrigin.TOKENS))


def test_what_all_clusters_promote_tells_less_than_what_one_does():
    code, law = saying(["the def"] * 3, ["the shall"] * 3)
    assert (code.of(LabelOrigin.TOKENS), law.of(LabelOrigin.TOKENS)) == (["def", "the"], ["shall", "the"])
    weight = {term.text: term.weight for term in code.terms}
    assert weight["def"] > 1.5 * weight["the"]


def test_a_declared_name_stays_beside_the_tokens_that_contradict_it():
    members = [version(f"m-{place}", domain="legal", team="counsel") for place in range(3)]
    words = {member.ref: Words((Word("def", 2.0),)) for member in members}
    [named] = name_clusters([members], words=words)
    assert named.text == "legal"
    assert "tag" in named.origin
    assert named.of(LabelOrigin.TOKENS) == ["def"]
    assert set(named.of(LabelOrigin.TAG)) == {"domain=legal", "team=counsel"}


def test_tags_of_tools_are_nobodys_words():
    assert name(*[version(place, **{"mlflow.user": "x", "deltadex.base": "b"}) for place in "ab"]).terms == ()


def test_versions_in_no_cluster_make_a_term_less_telling():
    group = [version(f"sql-{place}") for place in "ab"]
    [alone] = name_clusters([group], rest=[version("law-a"), version("art-b")])
    [shared] = name_clusters([group], rest=[version("sql-a"), version("sql-b")])
    assert alone.terms[0].weight > shared.terms[0].weight
