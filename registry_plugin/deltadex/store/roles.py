"""Roles of the services, their rights, and their logins. The owner of the tables is the user that migrates.

Roles belong to the whole server. If the migrating user may not create them, an administrator must, and the next
migration grants their rights. Until then only the owner can use the tables; `deltadex db status` shows this.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import LiteralString

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier, Literal

from deltadex.errors import StoreError
from deltadex.setting_groups import DatabaseSettings


class DatabaseRole(StrEnum):
    """Roles to be granted to the users of the services. Only the dashboard may say who decides."""

    WRITER = "deltadex_writer"
    READER = "deltadex_reader"
    AUDITOR = "deltadex_auditor"
    DASHBOARD = "deltadex_dashboard"


_READ: LiteralString = """
    grant usage on schema deltadex to {role};
    revoke all on all tables in schema deltadex from {role};
    grant select on all tables in schema deltadex to {role};
"""
#: Rights beyond reading. Only the owner may change append-only rows, and triggers reject most of that as well.
_MORE: dict[DatabaseRole, LiteralString] = {
    DatabaseRole.WRITER: """
        grant insert, update on model_versions, shards, watchers, work_done, machines to {role};
        grant delete on machines, witnesses to {role};
        grant insert, update (current_since, is_weak, probe_deltas) on embeddings to {role};
        grant insert, update (noise_floor) on recipes to {role};
        grant insert, update on words, imprints, lineage_sketches, meanings, calibrations, geometries to {role};
        grant insert, update on notified, deliveries, repeat_notices, witnesses to {role};
        grant insert on time_stamps to {role};
        grant insert, update on training_records to {role};
        grant update on task_searches, replays, advice_requests, safety_requests, taught_searches to {role};
        grant insert, update on safety_bases, private_readings to {role};
        grant insert, update, delete on codes, findings, clusters, cluster_assignments, cluster_runs, layouts to {role};
        grant insert (kind, model_version_id, other_id, recipe_id, measure, threshold, evidence, severity,
            last_measured, due_at, planned_due_at) on reviews to {role};
        grant update (recipe_id, measure, threshold, evidence, severity, is_found, last_measured, tagged_id, due_at,
            planned_due_at) on reviews to {role};
        grant insert (registry, name, created_ms, tags, tag_owner, tag_tier),
            update (name, created_ms, is_gone, tags, tag_owner, tag_tier, tagged_id) on registered_models to {role};
        grant execute on function record_decision, rename_cluster, start_over, ask_task_search, ask_replay, ask_advice,
            ask_safety, ask_taught, note_visit, record_sent_text, record_ownership to {role};
    """,
    DatabaseRole.READER: """
        grant execute on function record_decision, rename_cluster, start_over, ask_task_search, ask_replay, ask_advice,
            ask_safety, ask_taught, note_visit, record_sent_text, record_ownership to {role};
    """,
    DatabaseRole.AUDITOR: "",
    DatabaseRole.DASHBOARD: """
        grant execute on function record_decision, rename_cluster, start_over, ask_task_search, ask_replay, ask_advice,
            ask_safety, ask_taught, note_visit, erase_text, record_sent_text, record_ownership to {role};
    """,
}


def grant(connection: Connection) -> None:
    """Create missing roles if this user may, and update the rights of all roles. Only the owner does anything."""
    if not _owns_tables(connection):
        return
    for role in missing(connection):
        _create(connection, role)
    for role in set(DatabaseRole) - set(missing(connection)):
        connection.execute(SQL(_READ + _MORE[role]).format(role=Identifier(role)))


def logins_of(settings: DatabaseSettings) -> dict[DatabaseRole, str]:
    """Return the connection strings of the services that have a login of their own."""
    urls = {role: getattr(settings, f"{role.name.lower()}_url") for role in DatabaseRole}
    return {role: url.get_secret_value() for role, url in urls.items() if url is not None}


def create_logins(connection: Connection, urls: Mapping[DatabaseRole, str]) -> None:
    """Let the user of each connection string log in with its password, as a member of the role. Idempotent.

    Raises
    ------
    StoreError
        A user exists already with more rights than a service may have.
    """
    for role, url in urls.items():
        parts = conninfo_to_dict(url)
        user, password = str(parts["user"]), str(parts.get("password", ""))
        _require_ordinary(connection, user)
        if connection.execute("select to_regrole(quote_ident(%s))", [user]).fetchone() == (None,):
            connection.execute(SQL("create role {}").format(Identifier(user)))
        connection.execute(SQL("alter role {} login password {}").format(Identifier(user), Literal(password)))
        if user != role:
            connection.execute(SQL("grant {} to {}").format(Identifier(role), Identifier(user)))


def _require_ordinary(connection: Connection, user: str) -> None:
    if _has_all_rights(connection, user):
        raise StoreError(
            f"{user} is a superuser or owns the tables, and may not be the login of a service",
            hint="Name another user in DELTADEX_DATABASE__…_URL; `deltadex init` creates it.",
        )


def is_separated(connection: Connection) -> bool:
    """Return whether this connection's login is neither a superuser nor the owner of the tables."""
    row = connection.execute("select session_user").fetchone()
    return row is not None and not _has_all_rights(connection, row[0])


def _has_all_rights(connection: Connection, user: str) -> bool:
    row = connection.execute(
        """
        select rolsuper or pg_has_role(pg_roles.oid, relowner, 'member') from pg_roles, pg_class
        where rolname = %s and pg_class.oid = to_regclass('deltadex.model_versions')
        """,
        [user],
    ).fetchone()
    return row == (True,)


def missing(connection: Connection) -> list[DatabaseRole]:
    """Return the roles that this server does not have."""
    return [role for role in DatabaseRole if connection.execute("select to_regrole(%s)", [role]).fetchone() == (None,)]


def without_rights(connection: Connection) -> list[DatabaseRole]:
    """Return the roles without rights on this database's tables, missing roles included."""
    found = connection.execute(
        """
        select rolname from pg_roles where rolname = any(%s) and has_schema_privilege(oid, 'deltadex', 'usage')
            and has_table_privilege(oid, to_regclass('deltadex.model_versions'), 'select')
        """,
        [list(DatabaseRole)],
    )
    granted = {name for (name,) in found}
    return [role for role in DatabaseRole if role not in granted]


def _create(connection: Connection, role: DatabaseRole) -> None:
    try:
        # Roles belong to the server: a migration of another database may create them at the same time.
        with connection.transaction():
            connection.execute(SQL("create role {} nologin").format(Identifier(role)))
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return


def _owns_tables(connection: Connection) -> bool:
    row = connection.execute(
        "select pg_has_role(relowner, 'usage') from pg_class where oid = to_regclass('deltadex.model_versions')"
    ).fetchone()
    return row == (True,)
