"""Full-text search over what people wrote about models, and over the words that finetunes promote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from psycopg.sql import SQL

from deltadex.escaping import storable
from deltadex.search.filters import Conditions, version_filter
from deltadex.store.database import Transaction
from deltadex.types import TOOL_TAGS

#: Places that are searched, the weightiest first, as the query names and weighs them.
PLACES = ("name", "tags", "description", "words")
#: Between the words of a name; else Postgres takes some for a host or a path, which is one word.
_SEPARATORS = "-_./"
#: Of one place: Postgres refuses to index a megabyte.
_MOST_CHARACTERS = 10_000


@dataclass(frozen=True)
class Hit:
    """The latest version of a model that matches.

    Attributes
    ----------
    places
        Where it matches, of `PLACES`.
    """

    version_id: int
    name: str
    places: tuple[str, ...]


_HITS: LiteralString = """
    with asked as (
        select string_agg(quote_literal(lexeme), ' | ')::tsquery as query
        from unnest(to_tsvector('english', translate(%(text)s, %(separators)s, %(blanks)s)))),
    latest as (
        select id, name, tags, description from (
            select distinct on (name) * from model_versions
            where registry = %(registry)s and state <> 'deleted' order by name, version desc) newest
        where {met}),
    said as (
        select distinct on (model_version_id) model_version_id,
            (select string_agg(word ->> 0, ' ') from jsonb_array_elements(promoted) as word) as promoted
        from words join current_embeddings using (model_version_id, recipe_id, weights_digest)
        where model_version_id in (select id from latest) and has_direction
        order by model_version_id, current_since desc),
    written as materialized (
        select id, name,
            to_tsvector('english', translate(name, %(separators)s, %(blanks)s)) as in_name,
            to_tsvector('english', left(coalesce((
                select string_agg(value, ' ') from jsonb_each_text(tags) as tag (key, value)
                where not (key ^@ any(%(tools)s))), ''), %(most)s)) as in_tags,
            to_tsvector('english', left(coalesce(description, ''), %(most)s)) as in_description,
            to_tsvector('english', coalesce(promoted, '')) as in_words
        from latest left join said on model_version_id = id),
    matching as (
        select id, name,
            array[in_name @@ query, in_tags @@ query, in_description @@ query, in_words @@ query] as is_in,
            ts_rank(
                setweight(in_name, 'A') || setweight(in_tags, 'B') || setweight(in_description, 'C') || in_words,
                query) as rank
        from written cross join asked)
    select id, name, is_in from matching where true = any(is_in) order by rank desc, name
"""


def hits(tx: Transaction, registry: str, text: str, *, conditions: Conditions | None = None) -> list[Hit]:
    """Return the models that match any word of a text, the best first: by weight of the places, then by name.

    Words are compared by their English stems; there are no operators.

    Parameters
    ----------
    conditions
        Conditions on the latest version.
    """
    met = version_filter(conditions)
    query = SQL(_HITS).format(met=met.met)
    found = tx.execute(
        query,
        {
            **met.parameters,
            "registry": registry,
            "text": storable(text.replace("\0", "")),
            "tools": list(TOOL_TAGS),
            "separators": _SEPARATORS,
            "blanks": " " * len(_SEPARATORS),
            "most": _MOST_CHARACTERS,
        },
    )
    return [
        Hit(version_id, name, tuple(place for place, is_here in zip(PLACES, is_in, strict=True) if is_here))
        for version_id, name, is_in in found
    ]
