"""Links of the repository's pages as links of the site: pages beside docs/ belong to it, other files are only named.

A link is written for whoever reads the file in the repository. README.md is the site's front page.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parents[2]
# Pages of the repository's root, and where each is in the site.
BESIDE: Final = {
    "README.md": "index.md",
    "README.ja.md": "ja/index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
HOME: Final = {site: name for name, site in BESIDE.items()}
LINK: Final = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
PICTURE: Final = re.compile(r"(!\[[^\]]*\]\()([^)\s]+)")
TAG: Final = re.compile(r'(<img [^>]*?src=")([^"]+)')


def in_repository(page: str) -> str:
    """Where a page of the site lies in the repository."""
    return HOME.get(page, f"docs/{page}")


def in_site(name: str) -> str | None:
    """Where a file of the repository is in the site; None where it is not."""
    if name in BESIDE:
        return BESIDE[name]
    # A page that does not exist, too: the build says so. A folder is no page.
    inside = name.startswith("docs/") and PurePosixPath(name).suffix
    return name.removeprefix("docs/") if inside else None


def rewritten(target: str, page: str, base: str | None = None) -> str | None:
    """A link's target as the site has it, from `base`, else the page's folder; None where it leads out of the site."""
    if re.match(r"[a-z]+:|#", target):
        return target
    name, hash_, anchor = target.partition("#")
    here = PurePosixPath(in_repository(page)).parent
    there = in_site(normpath(str(here / name)))
    return there and relpath(there, base or str(PurePosixPath(page).parent)) + hash_ + anchor


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite every link and picture of a page."""
    where = page.file.src_uri

    def link(found: re.Match[str]) -> str:
        target = rewritten(found[2], where)
        return f"[{found[1]}]({target})" if target else found[1]

    # MkDocs leaves tags as they are: what they name is read from the page's address, which is a folder.
    address = page.url.rstrip("/") or "."
    text = TAG.sub(lambda found: found[1] + (rewritten(found[2], where, address) or found[2]), markdown)
    text = PICTURE.sub(lambda found: found[1] + (rewritten(found[2], where) or found[2]), text)
    return LINK.sub(link, text)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand beside docs/."""
    for name, site in BESIDE.items():
        files.append(File.generated(config, site, abs_src_path=str(ROOT / name)))
    return files
