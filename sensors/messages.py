"""What a message of the outbox looks like in Slack."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from lifecycle.language import _, numbered
from lifecycle.ledger.notifications import Claim
from lifecycle.ledger.problems import cause_title
from sensors.next_steps import job_title, next_steps, outage_steps

# Slack refuses longer ones: 150 characters in a header, 3000 in a section, 50 blocks.
HEADER_LENGTH: Final = 150
SECTION_LENGTH: Final = 3000
# An escaped character takes up to five.
TITLE_LENGTH: Final = 100
ERROR_LENGTH: Final = 400
LINE_LENGTH: Final = 500
MOST_PROBLEMS: Final = 20
MOST_SECTIONS: Final = 20

Block = dict[str, Any]


def escaped(text: str) -> str:
    """Text that Slack shows as it is: no link, no mention, no end of a code block."""
    text = text.replace("```", "'''")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def moment(at: datetime) -> str:
    """A point in time in the reader's own zone, in UTC where a program shows it otherwise."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC>"


def span(length: timedelta) -> str:
    """A duration in its two largest units: 3 h 20 min."""
    minutes = max(0, round(length / timedelta(minutes=1)))
    days, hours = divmod(minutes // 60, 24)
    if days:
        return _("{days} d {hours} h").format(days=days, hours=hours)
    told = _("{hours} h {minutes} min") if hours else _("{minutes} min")
    return told.format(hours=hours, minutes=minutes % 60)


def times(count: int) -> str:
    return numbered("once", "{count:,} times", count).format(count=count)


def _header(text: str) -> Block:
    return {"type": "header", "text": {"type": "plain_text", "text": text[:HEADER_LENGTH], "emoji": True}}


def _section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _context(text: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text[:SECTION_LENGTH]}]}


def _more(count: int) -> str:
    return _("and {count} more").format(count=count)


def _what_to_do(steps: Iterable[str]) -> Block:
    heading = _("What to do")
    return _section(f"*{heading}*\n" + "\n".join(f"• {escaped(step)}" for step in steps))


def _run_link(run_id: str | None, ui_url: str) -> str:
    return f"<{ui_url.rstrip('/')}/runs/{run_id}|" + _("open the run") + ">" if run_id else ""


def _problem(problem: dict[str, Any], ui_url: str) -> Block:
    since = moment(datetime.fromisoformat(problem["since"]))
    facts = [_("since {moment}").format(moment=since), times(problem["times"]), _run_link(problem["run_id"], ui_url)]
    title, error = cause_title(problem["cause"])[:TITLE_LENGTH], problem["error"][:ERROR_LENGTH]
    return _section(f"*{escaped(title)}*\n```{escaped(error)}```\n{' · '.join(fact for fact in facts if fact)}")


def failure(taken: Claim, ui_url: str) -> tuple[str, list[Block]]:
    """What fails in a job; once it has recovered, that it did."""
    problems: list[dict[str, Any]] = taken.content.get("problems", [])
    count = times(int(taken.content.get("failures", 1)))
    title = job_title(taken.job)
    if taken.closed_at:
        text = _("Recovered: {job} failed {times}").format(job=title, times=count)
        state = _("failed {times}, works again since {moment}").format(times=count, moment=moment(taken.closed_at))
    else:
        text = _("{job} fails: {error}").format(job=title, error=problems[0]["error"] if problems else "")
        state = _("failing since {moment}, {times}").format(moment=moment(taken.created_at), times=count)
    blocks = [
        _header(f"{':white_check_mark:' if taken.closed_at else ':red_circle:'} {title}"),
        _context(state),
        *(_problem(problem, ui_url) for problem in problems[:MOST_PROBLEMS]),
    ]
    if len(problems) > MOST_PROBLEMS:
        blocks.append(_context(_more(len(problems) - MOST_PROBLEMS)))
    if not taken.closed_at:
        steps = next_steps(taken.job, [problem["cause"] for problem in problems])
        blocks.append(_what_to_do(steps))
    return text, blocks


def further_message(taken: Claim, problems: list[dict[str, Any]], ui_url: str) -> dict[str, Any]:
    """What fails besides in a job that people have heard of, where their message cannot be edited."""
    title = job_title(taken.job)
    text = _("{job} fails in more ways: {error}").format(job=title, error=problems[0]["error"])
    blocks = [
        _header(":red_circle: " + _("{job}: {count} more").format(job=title, count=len(problems))),
        *(_problem(problem, ui_url) for problem in problems[:MOST_PROBLEMS]),
    ]
    if len(problems) > MOST_PROBLEMS:
        blocks.append(_context(_more(len(problems) - MOST_PROBLEMS)))
    return {"text": escaped(text[:ERROR_LENGTH]), "blocks": blocks}


def recovery(taken: Claim) -> tuple[str, list[Block]]:
    """A job works again: for how long and how often it had failed."""
    since = datetime.fromisoformat(taken.content["since"])
    count = times(int(taken.content.get("failures", 1)))
    title, length = job_title(taken.job), span(taken.created_at - since)
    text = _("{job} works again: it failed {times} in {span}").format(job=title, times=count, span=length)
    heading = _("{job} works again").format(job=title)
    return text, [_header(f":large_green_circle: {heading}"), _context(escaped(text))]


def report(taken: Claim, ui_url: str) -> tuple[str, list[Block]]:
    """Ready content: {"title": text, "lines": [text], "table": optional text, "run_id": optional}."""
    title = str(taken.content.get("title") or job_title(taken.job))
    blocks = [_header(title)]
    blocks += [_section(part) for part in _parts(taken.content.get("lines") or [])]
    blocks += [_section(f"```{part}```") for part in _parts(str(taken.content.get("table") or "").splitlines())]
    if link := _run_link(taken.content.get("run_id"), ui_url):
        blocks.append(_context(link))
    return title, blocks


def _parts(lines: Iterable[object]) -> list[str]:
    """Lines, escaped and put together into as many sections as they need."""
    parts: list[str] = []
    for line in (escaped(str(line)[:LINE_LENGTH]) for line in lines):
        if parts and len(parts[-1]) + len(line) + len("\n``````") <= SECTION_LENGTH:
            parts[-1] += f"\n{line}"
        else:
            parts.append(line)
    return parts[:MOST_SECTIONS]


def slack_message(taken: Claim, ui_url: str) -> dict[str, Any]:
    """The message as Slack's API takes it: blocks, and a line of text for notifications of a phone."""
    if taken.kind == "failure":
        text, blocks = failure(taken, ui_url)
    elif taken.kind == "recovery":
        text, blocks = recovery(taken)
    else:
        text, blocks = report(taken, ui_url)
    return {"text": escaped(text[:ERROR_LENGTH]), "blocks": blocks}


def outage_message(reason: str, since: datetime) -> dict[str, Any]:
    """The database is away."""
    text = reason[:1].upper() + reason[1:ERROR_LENGTH]
    return {
        "text": escaped(text),
        "blocks": [
            _header(":red_circle: " + _("The database cannot be reached")),
            _context(_("since {moment}").format(moment=moment(since))),
            _section(f"```{escaped(text)}```"),
            _what_to_do(outage_steps()),
        ],
    }


def outage_over_message(since: datetime, over: datetime) -> dict[str, Any]:
    """The database answers again."""
    length = span(over - since)
    state = _("it was away for {span}, since {moment}").format(span=length, moment=moment(since))
    return {
        "text": _("The database answers again: it was away for {span}").format(span=length),
        "blocks": [_header(":large_green_circle: " + _("The database answers again")), _context(state)],
    }
