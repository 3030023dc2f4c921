"""`lifecycle docs`: every page that is made from code and declarations, written anew."""

import typer

from orchestration.cli.session import declared_application, errors_as_messages


def docs(context: typer.Context) -> None:
    """Write the generated pages of docs/ anew, from the code and the declarations.

    When: after a change of the declarations or of the code, before it is committed.
    """
    from lifecycle.errors import RefusedError
    from orchestration.shipped import PROJECT, is_clone

    with errors_as_messages():
        # Reads the declarations, which may be broken.
        from orchestration.docs.pages import write_pages

        if not is_clone():
            raise RefusedError(f"the pages belong to a clone of the project, and {PROJECT} is none. Run it in a clone")
        changed = write_pages(declared_application(), context.find_root().command)
    typer.echo("\n".join(changed) or "Every page is as it should be.")
