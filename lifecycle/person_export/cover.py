"""The cover sheet of an export, in Japanese and English: what each file holds, and how its rows were found."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from lifecycle.declarations.application import Application
from lifecycle.declarations.personal_data import PERSON
from lifecycle.person_export.written import Found, Written

COVER_SHEET: Final = "00_cover_sheet.md"
PAGE: Final = """\
# あなたについて保存しているデータ / The data that we hold about you

| | |
|---|---|
| アカウント / account | `{person}` |
| 作成日時 / made at | {now} UTC |
| 記録番号 / number in our log | {number} |
| 表の数 / tables | {tables:,} |
| 件数 / rows | {rows} |

**日本語** - このフォルダーには、上のアカウントに結び付いていることをデータベースが保証している行だけが入っています。\
すべて同じ一時点の内容です。各表は JSON（保存されているままの内容）と CSV（表計算ソフトで読むためのもの）の二つの\
ファイルになっています。CSV では、数式として実行されうる文字で始まる文字列の前に `'` を付けています。時刻は UTC です。\
個人データが含まれていますので、取り扱いにご注意ください。

**English** - This folder holds the rows of which the database vouches that they belong to the account above, all as \
of one moment. Each table is two files: JSON, exactly as stored, and CSV, for spreadsheets. In the CSV a text that a \
spreadsheet could run as a formula has a `'` before it. Times are in UTC. These are personal data: handle them with \
care.

## 表の内容 / What each table holds

{sections}\
## 該当する行がなかった表 / Tables in which nothing was found

{empty}

## 含まれていないもの / What is left out

**日本語**
- 本人が名乗っただけの手がかり（ブラウザーの訪問名など）だけで見つかる行。他の人の行かもしれないためです。
- 上の行から計算される集計値（ビューや統計）。元の行がすべて入っています。
- 他の人の行の中の、あなたに触れた文章。
- パスワードのハッシュなど、ログインの仕組みのための秘密。
- 運用上の作業メモ（どの処理を待っているか、など）。

**English**
- Rows that only a claim would lead to, such as the name of a browser's visit: they may be somebody else's.
- Figures that are computed from these rows (views, statistics): the rows are here.
- What other people wrote about you in rows of theirs.
- Secrets of the sign-in, such as the hash of a password.
- Working notes of the operation, such as what waits to be computed.
"""
SECTION: Final = """\
### {file}

| | |
|---|---|
| 表 / table | `{table}` |
| 内容 | {ja} |
| what it is | {en} |
| 件数 / rows | {rows} |
| どのように見つけたか / how found | {found} |

"""
ARCHIVED: Final = ("（古い行の保管場所。文章は圧縮を解いてあります）", " (old rows, their texts unpacked)")
DERIVED: Final = ("（あなたの他のデータから算出したもの）", " (derived from other data of yours)")
# Rows of months that left the database for files.
COLD: Final = "{rows:,}（うちファイルに移した古い月 / of these from cold months: {cold:,}）"
PARTLY: Final = ("（この資料に必要な列のみ）", " (only the columns that identify you)")


def cover_sheet(
    application: Application, written: Sequence[Written], *, person: str, number: int, now: datetime
) -> str:
    """The text of the sheet, in Markdown."""
    full, empty = [each for each in written if each.rows], [each for each in written if not each.rows]
    return PAGE.format(
        person=_cell(person.replace("`", "")),
        now=f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        number=number,
        tables=len(full),
        rows=_rows(sum(each.rows for each in full), sum(each.cold for each in full)),
        sections="".join(_section(application, each) for each in full),
        empty=", ".join(f"`{each.table.name}`" for each in empty) or "-",
    )


def _section(application: Application, written: Written) -> str:
    table = written.table
    ja, en = _explained(application, written)
    return SECTION.format(
        file=f"{written.stem}.json, .csv",
        table=table.name,
        ja=_cell(ja),
        en=_cell(en),
        rows=_rows(written.rows, written.cold),
        found="<br>".join(_found(application, found) for found in written.by_way),
    )


def _rows(count: int, cold: int) -> str:
    return COLD.format(rows=count, cold=cold) if cold else f"{count:,}"


def _explained(application: Application, written: Written) -> tuple[str, str]:
    """The declared words in both languages; without them those of the database's comment and of the map."""
    table = written.table
    declared = application.person_export.root.get(table.archive_of or table.name)
    own = ". ".join(dict.fromkeys(filter(None, (table.comment, table.why)))) or "-"
    ja, en = (declared.ja, declared.en) if declared else (own, own)
    marks = [(ARCHIVED, table.archive_of is not None), (DERIVED, bool(declared and declared.derived))]
    for (told_ja, told_en), wanted in (*marks, (PARTLY, table.partly)):
        ja, en = (ja + told_ja, en + told_en) if wanted else (ja, en)
    return ja, en


def _found(application: Application, found: Found) -> str:
    """By which column and key, with the map's own words for the kind of key."""
    return _cell("; ".join(_ways(application, found)))


def _ways(application: Application, found: Found) -> Iterator[str]:
    data = application.personal_data
    kind = found.kind.replace("_", " ")
    yield f"`{found.by}` = {'アカウント / account' if found.kind == PERSON else kind}: {found.rows:,}"
    if data is not None and found.kind in data.keys and data.keys[found.kind].why:
        yield data.keys[found.kind].why


def _cell(text: str) -> str:
    """In one cell of a table of Markdown."""
    return " ".join(text.replace("|", "\\|").split())
