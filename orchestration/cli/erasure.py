"""`lifecycle erasure`: what would be done for a deletion request, its proof, the queue, a run without Dagster."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from lifecycle.language import _
from orchestration.cli.erasure_words import word
from orchestration.cli.session import cold_storage, command_session, command_transaction

GROUP: Final = "erasure"
erasure = typer.Typer(help="Carry out deletion requests and prove it.", no_args_is_help=True)

RequestId = Annotated[str, typer.Argument(help="Id of the deletion request, not of the person.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the request. No personal data.")]


@erasure.command()
def plan(
    request_id: RequestId,
    as_json: AsJson = False,
    texts: Annotated[
        bool, typer.Option("--texts", help="Where others' texts would lose words; takes as long as a search.")
    ] = False,
) -> None:
    """Show what would be done for a request now. Changes nothing.

    When: before a request is confirmed, held or cancelled.
    """
    from lifecycle.erasures.proof import cold_told, plan_erasure, plan_words, reach_told
    from orchestration.cli.erasure_report import plan_table, words_table

    with command_session(GROUP) as conn:
        if texts:
            words = plan_words(conn, request_id)
        else:
            steps = plan_erasure(conn, request_id)
            reach = reach_told(conn, request_id, steps)
        cold = cold_told(conn)
    if texts and as_json:
        typer.echo(json.dumps([asdict(place) for place in words], indent=2, ensure_ascii=False))
    elif texts:
        told = _("{count:,} rows of others would lose words of the person's.")
        told = told.format(count=sum(place.rows for place in words))
        Console().print(words_table(words), told, *filter(None, [cold]), _("Nothing was changed."), sep="\n")
    elif as_json:
        typer.echo(json.dumps([asdict(step) for step in steps], indent=2, ensure_ascii=False))
    else:
        Console().print(plan_table(steps), escape(reach), *filter(None, [cold]), _("Nothing was changed."), sep="\n")


@erasure.command()
def receipt(request_id: RequestId, as_json: AsJson = False) -> None:
    """Print the proof of a request, and whether the chain of all receipts is whole.

    When: when the person, or an authority, asks for the proof.
    """
    from lifecycle.erasures.proof import broken_receipts, receipts
    from orchestration.cli.erasure_report import receipts_json, receipts_tables

    with command_transaction(GROUP) as conn:
        found, broken = receipts(conn, request_id), broken_receipts(conn)
    if as_json:
        typer.echo(receipts_json(found, broken))
    else:
        Console().print(*receipts_tables(found, broken), sep="\n")
    if broken:
        raise typer.Exit(1)


@erasure.command()
def status(as_json: AsJson = False) -> None:
    """Show which requests wait or need a person, and when each is due. Changes nothing.

    When: when an alert or the weekly review tells of deletion requests, and before a deadline.
    """
    from lifecycle.erasures.queue import queue_status
    from orchestration.cli.erasure_report import status_lines
    from orchestration.cli.session import declared_application

    with command_transaction(GROUP) as conn:
        found = queue_status(conn, declared_application())
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False, default=str))
    else:
        # A line is broken by the terminal alone: an id, or SQL to paste, is copied whole.
        Console(highlight=False).print(*status_lines(found), sep="\n", soft_wrap=True)


@erasure.command()
def request(
    person: Annotated[str, typer.Argument(help="Key of the person: the id of the account.")],
    reason: Annotated[str | None, typer.Option(help="What the person said; gone with the person's data.")] = None,
) -> None:
    """Ask for a person's erasure, where the application has no table of requests of its own.

    When: when somebody asks to be erased.
    """
    from lifecycle.erasures.queue import request as ask
    from orchestration.cli.session import declared_application

    with command_session(GROUP) as conn:
        number = ask(conn, declared_application(), person, reason)
    typer.echo(_("Request {request}: it is carried out when its time has come.").format(request=number))


@erasure.command()
def hold(
    request_id: RequestId,
    reason: Reason,
    until: Annotated[
        datetime | None, typer.Option(help="End of the hold, in UTC; without it until somebody releases it.")
    ] = None,
) -> None:
    """Keep a request from being carried out. Its deadline goes on.

    When: in a dispute, under an obligation to preserve evidence, in doubt about who asked.
    """
    from lifecycle.erasures.queue import hold as hold_request
    from lifecycle.erasures.queue import standing
    from orchestration.cli.erasure_report import hold_told

    with command_session(GROUP) as conn:
        state = hold_request(conn, request_id, reason, until.replace(tzinfo=UTC) if until else None)
        held_until, due_at = standing(conn, request_id)
    typer.echo("\n".join(hold_told(request_id, state, held_until, due_at)))


@erasure.command()
def release(
    request_id: RequestId,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Also when it reaches far beyond the person's rows.")
    ] = False,
) -> None:
    """End a hold.

    When: once what a request was held for is settled.
    """
    from lifecycle.erasures.queue import release as release_request

    with command_session(GROUP) as conn:
        state = release_request(conn, request_id, confirm=confirm)
    typer.echo(_("Request {request} is {state}.").format(request=request_id, state=word(state)))


@erasure.command()
def cancel(request_id: RequestId, reason: Reason) -> None:
    """Never carry a request out; possible until something was erased.

    When: when somebody asked by mistake, or was not who they said.
    """
    from lifecycle.erasures.queue import cancel as cancel_request

    with command_session(GROUP) as conn:
        state = cancel_request(conn, request_id, reason)
    typer.echo(_("Request {request} is {state}.").format(request=request_id, state=word(state)))


@erasure.command()
def run() -> None:
    """Carry out every request that is due, with the proof, without Dagster. Exit code 1 when one failed.

    When: without Dagster, and after `lifecycle erasure replay`.
    """
    from orchestration.cli.erasure_report import run_everything
    from orchestration.cli.session import declared_application

    with command_session(GROUP) as conn:
        failed = run_everything(conn, declared_application(), cold_storage(), Console())
    raise typer.Exit(1 if failed else 0)


@erasure.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to write the list; an existing file is replaced.")],
) -> None:
    """Write the suppression list, to be kept outside of the database: keyed hashes, nobody's name.

    When: with every backup, or every night.
    """
    from lifecycle.erasures.proof import export_suppressions

    with command_session(GROUP) as conn:
        lines = list(export_suppressions(conn, datetime.now(UTC)))
        replace_file(file, "".join(f"{line}\n" for line in lines))
    typer.echo(_("{count:,} entries written to {file}.").format(count=len(lines) - 1, file=file))


def replace_file(file: Path, text: str) -> None:
    """Write a file whole or not at all, so that a full disk does not take the last good list along."""
    from lifecycle.errors import RefusedError

    half = file.with_name(f"{file.name}.new")
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(file)
    except OSError as error:
        told = _("{file} cannot be written: {reason}. Name another file")
        raise RefusedError(told.format(file=file, reason=error.strerror)) from error


@erasure.command()
def replay(file: Annotated[Path, typer.Argument(help="The list that `export` wrote.")]) -> None:
    """After a restore: add what the list knows, and queue everybody again who came back.

    When: after a backup was restored, before the application is opened.
    """
    from lifecycle.erasures.proof import replay_suppressions
    from lifecycle.errors import RefusedError

    with command_session(GROUP) as conn:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RefusedError(_("{file} cannot be read: {reason}").format(file=file, reason=error)) from error
        done = replay_suppressions(conn, lines)
    read = _("{entries:,} entries read, {added:,} were missing here.")
    typer.echo(read.format(entries=done.entries, added=done.added))
    for found in done.returned:
        back = _("request {request}: {count:,} rows are back in {table}")
        typer.echo(back.format(request=found.request_id, count=found.rows, table=found.table))
    waiting = _("{count:,} requests wait: `lifecycle erasure run`, or Dagster's sensor, carries them out.")
    typer.echo(waiting.format(count=done.waiting))
