"""Articles in their languages and versions."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sandbox.rows.copying import line
from sandbox.rows.vocabulary import DETAILS, EXPERIENCES, Experience
from sandbox.rows.world import World, make_uuid

STATES = ("published", "published", "draft", "in_review", "archived")


def _articles(world: World) -> Iterator[tuple[str, int, Experience, str, datetime]]:
    """(id, number, experience, status, created at) of one article per experience."""
    rng = world.rng("articles")
    for number, experience in enumerate(EXPERIENCES):
        yield make_uuid(rng), number, experience, STATES[number % 5], world.ago(rng, 500)


def _author(world: World, number: int) -> str | None:
    """Every fourth article has lost its author."""
    return None if number % 4 == 3 else world.accounts[number * 3 % len(world.accounts)]


def _body(experience: Experience) -> str:
    return f"# {experience.title}\n\n{experience.summary}。\n\n" + "\n\n".join(DETAILS[::2])


def article_lines(world: World) -> Iterator[str]:
    """articles: id, slug, language, title, summary, body_mdx, status, author_account_id, published_at, metadata,
    created_at, updated_at."""
    for article, number, experience, status, created in _articles(world):
        published = created + timedelta(days=2) if status == "published" else None
        yield line(
            *(article, experience.slug, "ja", experience.title, experience.summary, _body(experience), status),
            *(_author(world, number), published, {"readMinutes": 3}, created, created + timedelta(days=4)),
        )


def version_lines(world: World) -> Iterator[str]:
    """article_versions: id, article_id, version_number, language, title, summary, body_mdx, editor_account_id,
    change_note, created_at."""
    rng = world.rng("article versions")
    for article, number, experience, _status, created in _articles(world):
        for version in range(1, 2 + number % 3):
            note = None if version == 1 else "誤字"
            yield line(
                *(make_uuid(rng), article, version, "ja", experience.title, experience.summary, _body(experience)),
                *(_author(world, number), note, created + timedelta(days=version)),
            )


def translation_lines(world: World) -> Iterator[str]:
    """article_translations: id, article_id, language, title, summary, body_mdx, status, translator_account_id,
    published_at, metadata, created_at, updated_at."""
    rng = world.rng("article translations")
    for article, number, experience, status, created in _articles(world):
        if number % 2 == 0:
            published = created + timedelta(days=5) if status == "published" else None
            translator = _author(world, number + 1)
            yield line(
                *(make_uuid(rng), article, "en", experience.title, None, _body(experience), status, translator),
                *(published, {}, created, created + timedelta(days=5)),
            )
