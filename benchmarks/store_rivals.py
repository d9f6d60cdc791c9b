"""What a user would pick instead, on the same vectors: pgvector as its manual has it, and FAISS in memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from psycopg.sql import SQL

from benchmarks.store_company import LIMIT, Company, units
from benchmarks.synthetic_vectors import CHUNK

#: Finds the ids of the versions nearest to the one in a row, of one team or of all.
Search = Callable[[int, str | None], set[int]]

#: Candidates that `binary_quantize` leaves for the full vectors; the index visits as many for them.
_RERANKED = 200
#: Lists of FAISS's inverted file that a query looks into; there are as many as the root of the versions' number.
_PROBED = 16
_BUILD_MEMORY = "2GB"
HAS_FAISS = importlib.util.find_spec("faiss") is not None


@contextmanager
def plain_table(company: Company) -> Iterator[None]:
    """Make a table of ids, teams and vectors and nothing else, for the time of a block."""
    with company.database.transaction() as tx:
        tx.execute(
            """
            create table rival as
                select id, tags ->> 'team' as team, vector
                from model_versions join embeddings on model_version_id = id
                where id between %s and %s order by id
            """,
            # Without those that came later: the right answers know nothing of them.
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
    """Return a search by cosine distance without an index for it. Needs `plain_table`."""
    return _queries(
        company,
        """
        select id from rival where id <> %(id)s and (%(team)s::text is null or team = %(team)s)
        order by vector <=> (select vector from rival where id = %(id)s) limit %(limit)s
        """,
    )


def binary_quantize(company: Company) -> Search:
    """Return a search by the signs' Hamming distance in an HNSW index, then by full vectors. Needs `plain_table`."""
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
    """Return a search in an inverted file of full vectors, in this process's memory; nothing of it is on disk."""
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
        places = [place for place in found[0].tolist() if place not in (row, -1)]
        return {int(company.ids[place]) for place in places[:LIMIT]}

    return search


def _queries(company: Company, query: str) -> Search:
    def search(row: int, team: str | None) -> set[int]:
        with company.database.transaction() as tx:
            # As the manual advises where a filter follows the index; the scan doesn't look at it.
            tx.execute(f"set local hnsw.ef_search = {_RERANKED}; set local hnsw.iterative_scan = strict_order")
            found = tx.execute(query, {"id": int(company.ids[row]), "team": team, "limit": LIMIT}, prepare=True)
            return {version_id for (version_id,) in found}

    return search
