"""What differs between the declaration and the catalog, each with the statement that makes it so."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from psycopg import sql

from lifecycle.access.accepted import accepted_policies
from lifecycle.access.change import MAY, Change
from lifecycle.access.live import (
    Catalog,
    LiveRelation,
    LiveRoutine,
    by_name,
    printed_in_full,
    read_catalog,
    verb_of,
)
from lifecycle.access.model import (
    API_ROLES,
    COMPARED_ROLES,
    PUBLIC,
    SERVICE_ROLE,
    VERBS,
    Access,
    Declared,
    Relation,
    Routine,
    Rows,
)
from lifecycle.database import Connection
from lifecycle.declarations.access import BY_ITS_POLICIES
from lifecycle.language import Phrase, translatable

VIEW: Final = "v"
MAY_NOT: Final = translatable("{role} may not {privilege}")
MAY_PASS_ON: Final = translatable("{role} may pass {privilege} on")
THROUGH_PUBLIC: Final = translatable("{role} has {privilege} through PUBLIC only")
DECIDED_BY_POLICIES: Final = Rows(BY_ITS_POLICIES)


def access_changes(conn: Connection, declared: Declared) -> tuple[Change, ...]:
    """Everything that `lifecycle migrate` would change now; nothing when the catalog is as declared. Reads only.

    What does not exist in this database is passed over, and so are roles that do not exist.
    """
    with printed_in_full(conn):
        catalog = read_catalog(conn, declared)
        declared_from = accepted_policies(conn)
    relations = relation_changes(catalog, declared.relations, declared_from)
    return (*relations, *routine_changes(catalog, declared.routines))


def relation_changes(
    catalog: Catalog, relations: Sequence[Relation], declared_from: dict[tuple[str, str], tuple[str, str | None]]
) -> Iterator[Change]:
    """What differs of tables and views. `declared_from` is what `accepted_policies` returns."""
    for declared in relations:
        if live := catalog.relations.get(declared.name):
            # Where ours stood once, whoever dropped them opened or closed the table unasked.
            ours_stood = any(identifier == live.identifier for identifier, _ in declared_from)
            relation = declared if ours_stood else in_force(declared, live)
            yield from _row_security(relation, live)
            yield from _policies(relation, live, catalog.roles, declared_from)
            yield from _privileges(relation, live, catalog.roles)


def in_force(relation: Relation, live: LiveRelation) -> Relation:
    """The declaration as it holds here: where the application guards a table by policies of its own, they decide.

    Ours beside them would open what they keep closed; of a table that is `narrowed` it is known what they say.
    """
    guarded = live.row_security and live.policies and not any(policy.ours for policy in live.policies.values())
    if not guarded or not relation.policies() or relation.narrowed:
        return relation
    return replace(relation, access=(Access(API_ROLES, VERBS, DECIDED_BY_POLICIES),))


def _table(live: LiveRelation) -> sql.SQL:
    return sql.SQL(live.identifier)  # quoted by the server's format('%I')


def _foreign(live: LiveRelation | LiveRoutine) -> str | None:
    return None if live.is_ours_to_change else live.owner


def _is_off(live: LiveRelation) -> Phrase:
    """With those who would see no row of it any more: a role for reports, say, which nobody would hear complain."""
    if not live.other_readers:
        return Phrase("row-level security is off")
    blinded = translatable(
        "row-level security is off; once it is on, {roles} sees no row of it without BYPASSRLS or a policy of its own"
    )
    return Phrase(blinded, roles=tuple(live.other_readers))


def _row_security(relation: Relation, live: LiveRelation) -> Iterator[Change]:
    if relation.row_security and not live.row_security:
        yield Change(
            live.identifier,
            "row security",
            "",
            _is_off(live),
            sql.SQL("alter table {} enable row level security").format(_table(live)),
            owner=_foreign(live),
        )
    if live.kind == VIEW and relation.reads_as_caller and not live.reads_as_caller:
        yield Change(
            live.identifier,
            "option",
            "security_invoker",
            Phrase("reads as its owner, not as the caller"),
            sql.SQL("alter view {} set (security_invoker = true)").format(_table(live)),
            owner=_foreign(live),
        )


def _policies(
    relation: Relation,
    live: LiveRelation,
    roles: frozenset[str],
    declared_from: dict[tuple[str, str], tuple[str, str | None]],
) -> Iterator[Change]:
    wanted = relation.policies()
    for name, policy in live.policies.items():
        if policy.ours and name not in wanted:
            told = Phrase('policy "{name}" is not declared', name=name)
            yield Change(live.identifier, "policy", name, told, _drop(name, live), owner=_foreign(live))
        elif relation.narrowed and policy.service_only and SERVICE_ROLE in roles:
            asked = translatable(
                'policy "{name}" is asked for every row of everybody, and only the back end ever passes it'
            )
            yield Change(
                live.identifier,
                "policy roles",
                name,
                Phrase(asked, name=name),
                sql.SQL("alter policy {} on {} to service_role").format(sql.Identifier(name), _table(live)),
                detail="public",
                owner=_foreign(live),
            )
    for name, (verb, declared_roles, condition) in wanted.items():
        present = [role for role in declared_roles if role in roles]
        held, made_from = declared_from.get((live.identifier, name), (None, None))
        found = live.policies.get(name)
        if not present or (found and found.definition == held and made_from == _declared(verb, present, condition)):
            continue
        missing, differs = (
            translatable('policy "{name}" is missing'),
            translatable('policy "{name}" is not as declared'),
        )
        told = Phrase(missing if found is None else differs, name=name)
        create = _create(name, live, verb, present, condition, relation.reason)
        statement = sql.SQL("; ").join([_drop(name, live), create]) if found else create
        detail = _declared(verb, present, condition)
        yield Change(live.identifier, "policy", name, told, statement, detail=detail, owner=_foreign(live))


def _declared(verb: str, roles: Sequence[str], condition: str) -> str:
    return f"{verb.lower()} to {', '.join(roles)}: {condition}"


def _drop(name: str, live: LiveRelation) -> sql.Composed:
    return sql.SQL("drop policy {} on {}").format(sql.Identifier(name), _table(live))


def _create(
    name: str, live: LiveRelation, verb: str, roles: Sequence[str], condition: str, reason: str
) -> sql.Composed:
    return sql.SQL("create policy {name} on {table} for {verb} to {roles} {clause} ({condition}); {comment}").format(
        name=sql.Identifier(name),
        table=_table(live),
        verb=sql.SQL(verb.lower()),  # one of model.VERBS
        roles=sql.SQL(", ").join(map(sql.Identifier, roles)),
        clause=sql.SQL("with check" if verb == "INSERT" else "using"),
        condition=sql.SQL(condition),  # of access.yaml
        comment=sql.SQL("comment on policy {} on {} is {}").format(
            sql.Identifier(name), _table(live), sql.Literal(f"lifecycle: {reason}")
        ),
    )


def _privileges(relation: Relation, live: LiveRelation, roles: frozenset[str]) -> Iterator[Change]:
    through_public = frozenset(live.privileges.get(PUBLIC, {}))
    # What a role had through PUBLIC alone stays its own, if it is declared or nobody's business here.
    for role in (*API_ROLES, SERVICE_ROLE):
        held = live.privileges.get(role, {})
        for privilege in sorted(through_public - frozenset(held)):
            is_kept = role == SERVICE_ROLE or verb_of(privilege) in relation.verbs(role)
            if role in roles and is_kept and verb_of(privilege) not in held:
                yield _grant(live, role, privilege, Phrase(THROUGH_PUBLIC, role=role, privilege=privilege))
    for role in (PUBLIC, *(role for role in COMPARED_ROLES if role in roles)):
        for privilege, grantable in sorted(live.privileges.get(role, {}).items()):
            is_declared = verb_of(privilege) in relation.verbs(role)
            if not is_declared or grantable:
                yield _revoke(live, role, privilege, option_only=is_declared, grantable=grantable)
        for privilege in VERBS:
            if privilege in relation.granted(role) and privilege not in live.privileges.get(role, {}):
                yield _grant(live, role, privilege, Phrase(MAY_NOT, role=role, privilege=privilege))


def _grantee(role: str) -> sql.Composable:
    return sql.SQL("public") if role == PUBLIC else sql.Identifier(role)


def _revoke(live: LiveRelation, role: str, privilege: str, *, option_only: bool, grantable: bool) -> Change:
    """Take a privilege away, or only the right to pass it on, with whatever was passed on."""
    return Change(
        live.identifier,
        "grant option" if option_only else "revoke",
        role,
        Phrase(MAY_PASS_ON if option_only else MAY, role=role, privilege=privilege),
        sql.SQL("revoke {}{} on table {} from {}{}").format(
            sql.SQL("grant option for " if option_only else ""),
            sql.SQL(privilege),  # PostgreSQL's word, columns quoted by the server
            _table(live),
            _grantee(role),
            sql.SQL(" cascade" if grantable else ""),
        ),
        detail=privilege,
        grantable=grantable,
        owner=_foreign(live),
    )


def _grant(live: LiveRelation, role: str, privilege: str, told: Phrase) -> Change:
    statement = sql.SQL("grant {} on table {} to {}").format(
        sql.SQL(privilege),  # PostgreSQL's word, columns quoted by the server
        _table(live),
        sql.Identifier(role),
    )
    return Change(live.identifier, "grant", role, told, statement, detail=privilege, owner=_foreign(live))


def routine_changes(catalog: Catalog, routines: Sequence[Routine]) -> Iterator[Change]:
    """What differs of functions."""
    live = by_name(catalog)
    for routine in routines:
        for found in live.get(routine.name, []):
            signature = sql.SQL(found.signature)  # printed by the server
            wanted = set(routine.granted) & catalog.roles
            if PUBLIC in found.executors and PUBLIC not in routine.roles:
                # Of the application's own functions the back end keeps what it had; of ours it has what we gave it.
                back_end = set[str]() if found.ours else {SERVICE_ROLE}
                wanted |= {*routine.roles, *back_end} & catalog.roles
            for role in sorted(wanted - found.executors):
                yield Change(
                    found.signature,
                    "grant",
                    role,
                    Phrase(MAY_NOT if role in routine.granted else THROUGH_PUBLIC, role=role, privilege="EXECUTE"),
                    sql.SQL("grant execute on routine {} to {}").format(signature, sql.Identifier(role)),
                    detail="EXECUTE",
                    owner=_foreign(found),
                )
            for role in (PUBLIC, *COMPARED_ROLES):
                is_declared, passes_on = role in routine.roles, role in found.passing_on
                if role in found.executors and (passes_on or not is_declared):
                    yield Change(
                        found.signature,
                        "grant option" if is_declared else "revoke",
                        role,
                        Phrase(MAY_PASS_ON if is_declared else MAY, role=role, privilege="EXECUTE"),
                        sql.SQL("revoke {}execute on routine {} from {}{}").format(
                            sql.SQL("grant option for " if is_declared else ""),
                            signature,
                            _grantee(role),
                            sql.SQL(" cascade" if passes_on else ""),
                        ),
                        detail="EXECUTE",
                        grantable=passes_on,
                        owner=_foreign(found),
                    )
