"""Who may do what: rights for three group roles, beside the owner of the tables, who is whoever migrates.

The roles belong to the whole server. Where the migrating user may not create them, an administrator does, and the next
migration grants them their rights; until then only the owner can use the tables. `deltadex db status` says so.
"""

from __future__ import annotations

from enum import StrEnum
from typing import LiteralString

import psycopg
from psycopg import Connection
from psycopg.sql import SQL, Identifier


class Role(StrEnum):
    """Group roles without a login: grant them to the users of the services."""

    WRITER = "deltadex_writer"
    READER = "deltadex_reader"
    AUDITOR = "deltadex_auditor"


_READ: LiteralString = """
    grant usage on schema deltadex to {role};
    revoke all on all tables in schema deltadex from {role};
    grant select on all tables in schema deltadex to {role};
"""
#: Beyond reading. Nobody but the owner changes what was written once: see 0004_operations.sql.
_MORE: dict[Role, LiteralString] = {
    Role.WRITER: """
        grant insert, update on model_versions, watchers to {role};
        grant insert, update (current_since, is_weak, probe_deltas) on embeddings to {role};
        grant insert, update (noise_floor) on recipes to {role};
        grant insert, update on words, imprints, calibrations, geometries, notified, deliveries to {role};
        grant update on task_searches to {role};
        grant insert, update, delete on codes, findings, clusters, cluster_assignments, cluster_runs, layouts to {role};
        grant insert (kind, model_version_id, other_id, recipe_id, measure, threshold, evidence, severity,
            last_measured, due_at) on reviews to {role};
        grant update (recipe_id, measure, threshold, evidence, severity, is_found, last_measured, tagged_id)
            on reviews to {role};
        grant execute on function record_decision, rename_cluster, start_over, ask_task_search to {role};
    """,
    Role.READER: "grant execute on function record_decision, rename_cluster, start_over, ask_task_search to {role};",
    Role.AUDITOR: "",
}


def grant(connection: Connection) -> None:
    """Create the roles where this user may, and bring their rights up to date where it owns the tables."""
    if not _owns_tables(connection):
        return
    for role in missing(connection):
        _create(connection, role)
    for role in set(Role) - set(missing(connection)):
        connection.execute(SQL(_READ + _MORE[role]).format(role=Identifier(role)))


def missing(connection: Connection) -> list[Role]:
    """Return the roles that this server does not have."""
    return [role for role in Role if connection.execute("select to_regrole(%s)", [role]).fetchone() == (None,)]


def without_rights(connection: Connection) -> list[Role]:
    """Return the roles that have no rights on this database's tables, be it because they are missing."""
    found = connection.execute(
        """
        select rolname from pg_roles where rolname = any(%s) and has_schema_privilege(oid, 'deltadex', 'usage')
            and has_table_privilege(oid, to_regclass('deltadex.model_versions'), 'select')
        """,
        [list(Role)],
    )
    granted = {name for (name,) in found}
    return [role for role in Role if role not in granted]


def _create(connection: Connection, role: Role) -> None:
    try:
        # Roles are the server's: another database of it may be migrated at the same moment.
        with connection.transaction():
            connection.execute(SQL("create role {} nologin").format(Identifier(role)))
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return


def _owns_tables(connection: Connection) -> bool:
    row = connection.execute(
        "select pg_has_role(relowner, 'usage') from pg_class where oid = to_regclass('deltadex.model_versions')"
    ).fetchone()
    return row == (True,)
