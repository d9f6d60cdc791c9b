"""Alternatives to the store's search on the same vectors: pgvector as in its manual, and FAISS in memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from psycopg.sql import SQL

from benchmarks.store_company import LIMIT, Company, units
from benchmarks.synthetic_vectors import CHUNK

#: Returns the ids of the versions nearest to the one in a row, of one team or of all.
Search = Callable[[int, str | None], set[int]]

#: Candidates of `binary_quantize` that are re-ranked by full vectors, and `ef_search` of its index.
_RERANKED = 200
#: Lists of FAISS's inverted file per query; the file has as many lists as the square root of the number of versions.
_PROBED = 16
_BUILD_MEMORY = "2GB"
HAS_FAISS = importlib.util.find_spec("faiss") is not None


@contextmanager
def plain_table(company: Company) -> Iterator[None]:
    """Create a table of ids, teams and vectors for the duration of a block."""
    with company.database.transaction() as tx:
        tx.execute(
            """
            create table rival as
                select id, tags ->> 'team' as team, vector
                from model_versions join embeddings on model_version_id = id
                where id between %s and %s order by id
            """,
            # Without versions that were added later: the exact answers do not contain them.
            [int(company.ids[0]), int(company.ids[-1])],
        )
        tx.execute("alter table rival add primary key (id)")
        tx.execute("create index on rival (team)")
        tx.execute("analyze rival")
    try:
        yield
    finally:
        with company.database.transaction() as tx:
            tx.execute("drop table rival")


def exact_scan(company: Company) -> Search:
    """Return a search by cosine distance without an index. Needs `plain_table`."""
    return _queries(
        company,
        """
        select id from rival where id <> %(id)s and (%(team)s::text is null or team = %(team)s)
        order by vector <=> (select vector from rival where id = %(id)s) limit %(limit)s
        """,
    )


def binary_quantize(company: Company) -> Search:
    """Return a search by Hamming distance of signs in an HNSW index, re-ranked by full vectors. Needs `plain_table`."""
    bits = f"bit({company.vectors.shape[1]})"
    with company.database.transaction() as tx:
        tx.execute("select set_config('maintenance_work_mem', %s, true)", [_BUILD_MEMORY])
        tx.execute(SQL(f"create index on rival using hnsw ((binary_quantize(vector)::{bits}) bit_hamming_ops)"))
    return _queries(
        company,
        f"""
        with target as (select vector from rival where id = %(id)s),
        candidates as materialized (
            select id, vector from rival where id <> %(id)s and (%(team)s::text is null or team = %(team)s)
            order by binary_quantize(vector)::{bits} <~> (select binary_quantize(vector)::{bits} from target)
            limit {_RERANKED})
        select id from candidates order by vector <=> (select vector from target) limit %(limit)s
        """,  # noqa: S608 - numbers of our own
    )


def faiss_in_memory(company: Company) -> Search:
    """Return a search in an inverted file of full vectors in this process's memory."""
    import faiss

    count, dimension = company.vectors.shape
    lists = round(count**0.5)
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFFlat(quantizer, dimension, lists, faiss.METRIC_INNER_PRODUCT)
    index.train(units(company.vectors[:: max(1, count // (lists * 40))]))
    for start in range(0, count, CHUNK):
        index.add(units(company.vectors[start : start + CHUNK]))
    members = {None: None} | {
        team: faiss.IDSelectorBatch(np.flatnonzero(company.teams == team)) for team in np.unique(company.teams).tolist()
    }

    def search(row: int, team: str | None) -> set[int]:
        parameters = faiss.SearchParametersIVF(sel=members[team], nprobe=min(_PROBED, lists))
        _, found = index.search(units(company.vectors[[row]]), LIMIT + 1, params=parameters)
        rows = [number for number in found[0].tolist() if number not in (row, -1)]
        return {int(company.ids[number]) for number in rows[:LIMIT]}

    return search


def _queries(company: Company, query: str) -> Search:
    def search(row: int, team: str | None) -> set[int]:
        with company.database.transaction() as tx:
            # As the manual recommends for filters; the exact scan ignores these settings.
            tx.execute(f"set local hnsw.ef_search = {_RERANKED}; set local hnsw.iterative_scan = strict_order")
            found = tx.execute(query, {"id": int(company.ids[row]), "team": team, "limit": LIMIT}, prepare=True)
            return {version_id for (version_id,) in found}

    return search
