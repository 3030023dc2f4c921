"""What `lifecycle migrate` runs, as SQL to read: sections under a table of contents."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lifecycle.declarations.application import Application
from lifecycle.migrating.capabilities import declared_capabilities
from lifecycle.migrating.functions import function_files
from lifecycle.migrating.revisions import STATE_SCHEMA, VERSIONS, revisions_sql
from lifecycle.release import release

HEAD: Final = """\
-- What `lifecycle migrate` of release {release} runs on a database that has none of it.
-- `lifecycle migrate` itself asks the catalog first, runs only what differs, and makes at the end what depends on the
-- application's tables; that part is printed here where it can be known without a database.
--
-- Contents
{contents}
"""
CLOSE: Final = """
-- Default privileges may have opened a new function to everyone, PUBLIC always is.
do $close$
declare
    made record;
begin
    for made in
        select distinct p.oid::regprocedure as signature,
               case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee
          from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         where p.xmin::text = pg_current_xact_id()::xid::text and a.grantee <> p.proowner
    loop
        execute format('revoke all on routine %s from %s', made.signature, made.grantee);
    end loop;
end $close$;
"""
GRANT: Final = """
do $grant$ begin
    if to_regrole('{role}') is not null then grant execute on routine {signature} to {role}; end if;
end $grant$;
"""


@dataclass(frozen=True)
class Section:
    """One transaction of the script, or statements that may stand in none."""

    title: str
    text: str
    in_transaction: bool = True

    @property
    def statements(self) -> str:
        """What is run."""
        text = self.text.strip()
        return f"begin;\n{text}\ncommit;\n" if self.in_transaction else f"{text}\n"


def _sections(application: Application) -> Iterator[Section]:
    capabilities = declared_capabilities(application)
    revisions = revisions_sql(capabilities)
    yield Section("tables: schema and versions", f"create schema if not exists {STATE_SCHEMA};\n{revisions[VERSIONS]}")
    for capability in capabilities:
        if text := revisions.get(capability.name, ""):
            yield Section(f"tables: {capability.name}", text)
    for capability in capabilities:
        if statements := capability.policies(application):
            text = "".join(f"{statement.as_string(None).strip()};\n" for statement in statements)
            yield Section(f"declarations: {capability.name}", text)
    for file in function_files(application, capabilities):
        grants = "".join(
            GRANT.format(signature=signature, role=role)
            for signature, roles in file.executors.items()
            if f"function {signature.partition('(')[0]}(" in file.text
            for role in roles
        )
        settings = "set local check_function_bodies = off;\nset local search_path = '';\n\n"
        yield Section(f"functions: {file.name}", settings + file.text.strip() + "\n" + CLOSE + grants)
    for capability in capabilities:
        if text := capability.script(application):
            yield Section(f"objects: {capability.name}", text, capability.script_in_transaction)


def migration_script(application: Application) -> str:
    """The whole script."""
    sections = list(enumerate(_sections(application), 1))
    contents = "\n".join(f"--   {number:>2}. {section.title}" for number, section in sections)
    parts = (f"\n-- {number}. {section.title}\n-- {'-' * 100}\n{section.statements}" for number, section in sections)
    return HEAD.format(release=release(), contents=contents) + "".join(parts)
