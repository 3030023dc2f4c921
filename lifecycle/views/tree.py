"""A definition as a tree in which every column names its source, and what of SQL the search for ties understands."""

from collections.abc import Iterator, Mapping

from sqlglot import exp
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.schema import MappingSchema

from lifecycle.errors import RefusedError
from lifecycle.language import Phrase
from lifecycle.names import QualifiedName
from lifecycle.views.definition import DIALECT, parse_definition

# A relation's columns with their types, by name.
Columns = Mapping[QualifiedName, Mapping[str, str]]


def qualified_tree(definition: str, columns: Columns) -> exp.Query:
    """The definition with every column qualified by its source; RefusedError when that cannot be told."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for name, held in columns.items():
        tables.setdefault(name.schema, {})[name.name] = dict(held)
    # Names as the catalog has them: made lower case, as sqlglot would, they would not be found.
    schema = MappingSchema(dict(tables), dialect=DIALECT, normalize=False)
    try:
        tree = qualify(
            _with_aliases(parse_definition(definition)),
            schema=schema,
            dialect=DIALECT,
            expand_stars=False,
            quote_identifiers=False,
        )
    except Exception as error:  # sqlglot raises several kinds, all of them about this text
        why = str(error).splitlines()[0]
        raise RefusedError(Phrase("its columns cannot be traced: {error}", error=why)) from None
    if not isinstance(tree, exp.Query):
        raise RefusedError(Phrase("the definition is no query"))
    return tree


def _with_aliases(tree: exp.Query) -> exp.Query:
    """Each table under its own name where it has no other: sqlglot would give it one in lower case."""
    for table in tree.find_all(exp.Table):
        if not table.alias and table.name and not is_function(table):
            table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name, quoted=True)))
    return tree


def traced(definition: str, columns: Columns) -> Scope:
    """A definition made ready to be asked for ties; RefusedError when it holds what is not understood."""
    tree = qualified_tree(definition, columns)
    require_understood(tree)
    scope = build_scope(tree)
    if scope is None:
        raise RefusedError(Phrase("the definition is no query"))
    return scope


def require_understood(tree: exp.Query) -> None:
    """RefusedError for what means something else than the tree shows."""
    if any(part.args.get("recursive") for part in tree.find_all(exp.With)):
        raise RefusedError(Phrase("a recursive query goes from row to row"))
    for subquery in tree.find_all(exp.Subquery):
        if subquery.args.get("limit") or subquery.args.get("offset"):
            raise RefusedError(Phrase("it keeps only the first rows"))
        if isinstance(subquery.this, exp.Table):
            raise RefusedError(Phrase("a join in parentheses is not understood"))
    if tree.find(exp.TableSample):
        raise RefusedError(Phrase("it reads a sample"))
    for table in tables_in(tree):
        if not table.db:
            raise RefusedError(Phrase("{name} is none of the tables that it reads", name=table.name))
        if table.alias_column_names:
            raise RefusedError(Phrase("{name} has other column names in it", name=table.name))


def tables_in(tree: exp.Query) -> Iterator[exp.Table]:
    """Every reference of a table; those of a CTE and functions in FROM left out."""
    named = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if not is_function(table) and (table.db or table.name not in named):
            yield table


def is_function(source: exp.Table) -> bool:
    """Whether this is a function in FROM."""
    return isinstance(source.this, exp.Func)
