"""The documentation as a site: every page is in it, every link and anchor leads somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs_pages import ROOT

pytestmark = pytest.mark.one_server


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.relative_to(ROOT / "docs") for page in ROOT.glob("docs/**/*.md")}
    for page in pages:
        folder = page.parent if page.stem == "index" else page.with_suffix("")
        assert (tmp_path / folder / "index.html").is_file(), page
    front = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="how-to/run-on-one-machine/"' in front
    shown = 0
    for file in tmp_path.rglob("*.html"):
        for picture in re.findall(r'<img[^>]+src="([^"]+)"', file.read_text(encoding="utf-8")):
            assert (file.parent / picture).is_file(), f"{file.relative_to(tmp_path)}: {picture}"
            shown += 1
    assert shown >= 5
    # Nothing is fetched from elsewhere by whoever reads it.
    fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', front)
    assert fetched == []


def test_the_forge_runs_what_everybody_runs() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    ran = [step["run"].split()[-1] for job in jobs.values() for step in job["steps"] if "run" in step]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"test", "test-all"} <= set(ran)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in ran)
