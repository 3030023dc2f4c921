"""What dagster-webserver takes from anybody, and what deploy/nginx/dagster.conf lets through.

Behind a real nginx; `make test-all` installs it as root.
"""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import dagster as dg
import pytest
from websockets.exceptions import InvalidStatus

from orchestration.dagster_processes import HOST
from tests.webserver import (
    DATABASE_URL,
    NAME,
    SLACK_TOKEN,
    Door,
    running_proxy,
    running_webserver,
    runs_of,
    with_login,
)

pytestmark = pytest.mark.every_version

JOB = "record_storage"
LAUNCH = """mutation { launchRun(executionParams: {selector: {repositoryLocationName: "orchestration.definitions",
 repositoryName: "__repository__", jobName: "%s"}, runConfigData: %s})
 { __typename ... on PythonError { message } ... on RunConfigValidationInvalid { errors { message } } } }"""
LAUNCHES = LAUNCH % (JOB, '"{}"')
IN_ADDRESS = f"/graphql?{urlencode({'query': LAUNCHES})}"
AS_JSON = json.dumps({"query": LAUNCHES})
REPORT = "/report_asset_materialization/reported?description=nothing"
FOREIGN = "https://evil.example"
RESOURCES = """{ allTopLevelResourceDetailsOrError(repositorySelector:
 {repositoryLocationName: "orchestration.definitions", repositoryName: "__repository__"})
 { ... on ResourceDetailsList { results
 { name configFields { name defaultValueAsJson } configuredValues { key value } } } } }"""
EVENTS = 'subscription { pipelineRunLogs(runId: "%s") { __typename } }'


@dataclass(frozen=True)
class Site:
    """A webserver, the proxy before it, and the folder of the instance that both show."""

    home: Path
    open: Door
    proxy: Door

    @property
    def runs(self) -> int:
        return len(runs_of(self.home))

    @property
    def reported(self) -> bool:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return instance.get_latest_materialization_event(dg.AssetKey("reported")) is not None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("door") / "home"
    with ExitStack() as stack:
        webserver = stack.enter_context(running_webserver(home))
        yield Site(home, webserver, stack.enter_context(running_proxy(webserver)))


# As a page of another site makes a browser ask, without anybody's leave: (method, path, body, headers, by the proxy).
CROSS_SITE: dict[str, tuple[str, str, str | None, dict[str, str], int]] = {
    "a picture": ("GET", IN_ADDRESS, None, {"Accept": "image/*"}, 403),
    "a form": ("POST", IN_ADDRESS, "a=b", {"Content_Type": "application/x-www-form-urlencoded"}, 403),
    "plain text": ("POST", IN_ADDRESS, "a", {"Content_Type": "text/plain"}, 403),
    "no type": ("POST", IN_ADDRESS, "", {}, 403),
    "JSON in plain clothes": ("POST", "/graphql", AS_JSON, {"Content_Type": "text/plain; application/json"}, 403),
    "a query in plain clothes": (
        "POST",
        "/graphql",
        LAUNCHES,
        {"Content_Type": "text/plain; application/graphql"},
        403,
    ),
}


@pytest.mark.parametrize("kind", CROSS_SITE)
def test_without_the_proxy_a_foreign_page_launches_runs(site: Site, kind: str) -> None:
    """Where this fails, Dagster has closed a door: say so in docs/how-to/protect-the-ui.md."""
    method, path, body, headers, _refused = CROSS_SITE[kind]
    before = site.runs
    answer = site.open.ask(method, path, body, Origin=FOREIGN, Sec_Fetch_Site="cross-site", **headers)
    assert "LaunchRunSuccess" in answer.body
    assert site.runs == before + 1


def test_without_the_proxy_anybody_reports_and_listens(site: Site) -> None:
    assert site.open.graphql(LAUNCHES, Host="rebound.evil.example").json["data"]["launchRun"]
    said = site.open.first_event(EVENTS % runs_of(site.home)[0].run_id, FOREIGN)
    assert said["type"] == "data"
    assert site.open.ask("POST", REPORT, "", Origin=FOREIGN, Sec_Fetch_Site="cross-site").status == 200
    assert site.reported


@pytest.mark.parametrize("kind", CROSS_SITE)
def test_a_foreign_page_launches_nothing(site: Site, kind: str) -> None:
    method, path, body, headers, refused = CROSS_SITE[kind]
    before = site.runs
    # Newer browsers name the site, older ones the origin; each alone has to be enough.
    for asks in ({"Origin": FOREIGN}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}):
        assert with_login(site.proxy).ask(method, path, body, **headers, **asks).status == refused
    # A browser that says neither.
    assert with_login(site.proxy).ask(method, path, body, **headers).status == 405
    assert site.runs == before


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("HEAD", IN_ADDRESS, None, {}, 405),
        ("GET", IN_ADDRESS.replace("/graphql", "/%67raphql"), None, {}, 405),
        ("GET", IN_ADDRESS.replace("/graphql", "//graphql"), None, {}, 405),
        ("GET", IN_ADDRESS.replace("/graphql", "/x/../graphql"), None, {}, 405),
        ("GET", IN_ADDRESS, None, {"Upgrade": "h2c", "Connection": "upgrade"}, 405),
        ("PUT", "/graphql", AS_JSON, {"Content_Type": "application/json"}, 405),
        ("POST", "/graphql", LAUNCHES, {"Content_Type": "application/graphql"}, 405),
        ("POST", "/graphql", AS_JSON, {"Content_Type": "application/json", "Origin": "null"}, 403),
        ("POST", "/graphql", AS_JSON, {"Content_Type": "application/json", "Origin": f"https://{NAME}"}, 403),
        ("POST", "/graphql", AS_JSON, {"Content_Type": "application/json", "Host": "evil.example"}, 421),
        ("POST", REPORT, "", {}, 403),
        ("POST", "/report_asset_check/a?check_name=b&passed=true", "", {}, 403),
        ("POST", "/report_asset_observation/a", "", {}, 403),
        ("GET", "/logs/a/b", None, {"Sec_Fetch_Site": "cross-site"}, 403),
        ("GET", "/download_debug/a", None, {"Origin": FOREIGN}, 403),
        ("POST", "/", "", {}, 403),
    ],
)
def test_nobody_gets_round(
    site: Site, method: str, path: str, body: str | None, headers: dict[str, str], status: int
) -> None:
    before = site.runs
    assert with_login(site.proxy).ask(method, path, body, **headers).status == status
    assert site.runs == before


def test_a_query_in_an_address_does_not_arrive() -> None:
    """Whatever the webserver would make of an upgrade that is none: here somebody listens who notes what arrives."""
    with socket.create_server((HOST, 0)) as listener, running_proxy(Door(listener.getsockname()[1])) as proxy:
        listener.settimeout(60)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(with_login(proxy).ask, "GET", IN_ADDRESS, Upgrade="websocket", Connection="upgrade")
            arrived, _address = listener.accept()
            with arrived:
                assert arrived.recv(4096).partition(b"\r\n")[0] == b"GET /graphql HTTP/1.1"
            assert asked.result().status == 502


def test_nobody_enters_without_a_login(site: Site) -> None:
    before = site.runs
    for answer in (
        site.proxy.ask("GET", "/"),
        site.proxy.ask("GET", "/logs/a/b"),
        site.proxy.ask("GET", "/server_info"),
        site.proxy.graphql(LAUNCHES),
        site.proxy.graphql(LAUNCHES, Authorization="Basic a2ltOndyb25n"),
    ):
        assert answer.status == 401
    assert site.runs == before


def test_who_has_logged_in_launches_and_sees_the_pages(site: Site) -> None:
    door = with_login(site.proxy)
    before = site.runs
    for asks in ({}, {"Origin": door.origin, "Sec_Fetch_Site": "same-origin"}):
        answer = door.graphql(LAUNCHES, **asks)
        assert answer.json["data"]["launchRun"] == {"__typename": "LaunchRunSuccess"}, answer.body
        assert answer.headers["X-Frame-Options"] == "DENY"
    assert site.runs == before + 2
    # A link in Slack is another site's.
    page = door.ask("GET", "/runs", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert page.status == 200
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    (run, *_) = runs_of(site.home)
    assert door.ask("GET", f"/download_debug/{run.run_id}", Sec_Fetch_Site="same-origin").status == 200


def test_a_websocket_is_for_those_who_have_logged_in_on_our_pages(site: Site) -> None:
    door = with_login(site.proxy)
    assert door.graphql(LAUNCHES).status == 200
    query = EVENTS % runs_of(site.home)[0].run_id
    assert door.first_event(query, door.origin)["type"] == "data"
    for visitor, origin, status in (
        (site.proxy, door.origin, 401),
        (door, FOREIGN, 403),
        (door, f"https://{NAME}.evil.example", 403),
        (door, "null", 403),
    ):
        with pytest.raises(InvalidStatus) as refused:
            visitor.first_event(query, origin)
        assert refused.value.response.status_code == status


@pytest.mark.parametrize(
    ("job", "config", "named"),
    [
        (JOB, {"resources": {"database": {"config": {"url": "postgresql://me@evil.example/x"}}}}, "url"),
        (JOB, {"resources": {"slack": {"config": {"base_url": FOREIGN}}}}, "base_url"),
        (JOB, {"resources": {"io_manager": {"config": {"base_dir": {"env": "DAGSTER_HOME"}}}}}, "base_dir"),
        (
            "convert_event_tables",
            {"ops": {"choose_tables": {"config": {"tables": [{"env": "LIFECYCLE_DATABASE_URL"}]}}}},
            "tables",
        ),
    ],
)
def test_a_run_with_an_address_of_somebody_is_refused(site: Site, job: str, config: Any, named: str) -> None:
    before = site.runs
    answer = site.open.graphql(LAUNCH % (job, json.dumps(json.dumps(config)))).json["data"]["launchRun"]
    assert answer["__typename"] == "RunConfigValidationInvalid"
    assert named in answer["errors"][0]["message"]
    assert site.runs == before


def test_the_webserver_shows_no_secret(site: Site) -> None:
    answer = site.open.graphql(RESOURCES)
    found = answer.json["data"]["allTopLevelResourceDetailsOrError"]["results"]
    assert {row["name"] for row in found} == {
        "cold_storage",
        "database",
        "dataframes",
        "io_manager",
        "slack",
        "timetable",
        "watchdog",
    }
    assert all(row["configuredValues"] == [] for row in found)
    for secret in (DATABASE_URL, SLACK_TOKEN):
        assert secret not in answer.body
        stored = [path for path in site.home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert stored == []


def test_a_webserver_to_look_only_acts_on_nothing(site: Site) -> None:
    before = site.runs
    with running_webserver(site.home, "--read-only") as door:
        assert door.graphql(LAUNCHES).json["data"]["launchRun"]["__typename"] == "UnauthorizedError"
        assert "UnauthorizedError" in door.ask("GET", IN_ADDRESS).body
        assert door.ask("POST", f"{REPORT}&metadata={quote('{}')}", "").status == 401
    assert site.runs == before
