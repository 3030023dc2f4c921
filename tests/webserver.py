"""A real dagster-webserver of the project's definitions, and nginx before it with the file that is shipped."""

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from websockets.sync.client import connect

from orchestration.dagster_processes import HOST
from orchestration.shipped import PROJECT, WORKSPACE
from resources.variables import TOKEN_VARIABLE, URL_VARIABLE
from sandbox.supervise import SupervisedProcess, supervised

SHIPPED = PROJECT / "deploy/nginx/dagster.conf"
NAME, USER, PASSWORD = "dagster.example.com", "kim", "a password of a test"
DATABASE_URL = "postgresql://postgres:secret-of-the-database@127.0.0.1:1/postgres"
SLACK_TOKEN = "xoxb-secret-of-slack"  # noqa: S105
# Runs wait for a daemon, and there is none: what is launched stays and does nothing.
INSTANCE = """
run_coordinator: {module: dagster, class: QueuedRunCoordinator}
telemetry: {enabled: false}
"""
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/dagster.conf;
}}
"""
# A starved machine takes minutes to load the definitions.
PATIENCE = 250.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
        return port


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Door:
    """Where requests go in: a port of this machine, with what every request of its visitor carries."""

    port: int
    tls: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def context(self) -> ssl.SSLContext | None:
        # The certificate is one of this test.
        return ssl._create_unverified_context() if self.tls else None  # noqa: S323

    @property
    def origin(self) -> str:
        return f"https://{NAME}:{self.port}" if self.tls else f"http://{HOST}:{self.port}"

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        """Send exactly these headers; the names are written with underscores."""
        sent = {"Host": f"{NAME}:{self.port}" if self.tls else HOST, **self.headers}
        sent |= {name.replace("_", "-"): text for name, text in headers.items()}
        made = (
            http.client.HTTPSConnection(HOST, self.port, timeout=60, context=self.context)
            if self.tls
            else http.client.HTTPConnection(HOST, self.port, timeout=60)
        )
        with closing(made) as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, text in sent.items():
                connection.putheader(name, text)
            if body is not None:
                connection.putheader("Content-Length", str(len(body.encode())))
            connection.endheaders(body.encode() if body else None)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode(errors="replace"))

    def graphql(self, query: str, **headers: str) -> Answer:
        """As the UI asks."""
        return self.ask(
            "POST", "/graphql?op=Asked", json.dumps({"query": query}), Content_Type="application/json", **headers
        )

    def first_event(self, query: str, origin: str | None) -> Any:
        """What a subscription says first; websockets.exceptions.InvalidStatus where the door stays shut."""
        address = f"{'wss' if self.tls else 'ws'}://{NAME if self.tls else HOST}:{self.port}/graphql"
        with connect(
            address,
            sock=socket.create_connection((HOST, self.port), timeout=60),
            ssl=self.context,
            origin=origin,  # type: ignore[arg-type]  # a name for str
            subprotocols=["graphql-ws"],  # type: ignore[list-item]
            additional_headers=dict(self.headers),
            proxy=None,
        ) as session:
            session.send(json.dumps({"type": "connection_init"}))
            assert json.loads(session.recv(60))["type"] == "connection_ack"
            session.send(json.dumps({"type": "start", "id": "1", "payload": {"query": query}}))
            while (said := json.loads(session.recv(60)))["type"] == "ka":
                pass
            return said


def with_login(door: Door) -> Door:
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return Door(door.port, door.tls, {**door.headers, "Authorization": f"Basic {login}"})


def wait_for(door: Door, process: SupervisedProcess) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            door.ask("GET", "/server_info")
            return
        except OSError:
            log = process.log.read_text(errors="replace")[-2000:]
            assert process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.2)


@contextmanager
def running_webserver(home: Path, *options: str) -> Iterator[Door]:
    """A webserver over the instance of the folder `home`, which is made with the first one."""
    if not (home / "dagster.yaml").exists():
        home.mkdir()
        (home / "dagster.yaml").write_text(INSTANCE)
    door = Door(free_port())
    environment = {URL_VARIABLE: DATABASE_URL, TOKEN_VARIABLE: SLACK_TOKEN, "DAGSTER_HOME": str(home)}
    process = supervised(
        [sys.executable, "-m", "dagster_webserver", "-h", HOST, "-p", str(door.port), "-w", str(WORKSPACE), *options],
        env=dict(os.environ) | environment,
        cwd=PROJECT,
        log=home / f"webserver-{door.port}.log",
        stop_signal=signal.SIGTERM,
    )
    try:
        wait_for(door, process)
        yield door
    finally:
        process.stop()


@contextmanager
def running_proxy(webserver: Door) -> Iterator[Door]:
    """nginx with the shipped file: other ports, a certificate and users of the test, else as it is."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None or shutil.which("openssl") is None:
        pytest.fail("no nginx or openssl on PATH: apt-get install nginx openssl")
    with tempfile.TemporaryDirectory() as name:
        # Not pytest's folder: nginx's workers are another user where root starts it.
        folder = Path(name)
        folder.chmod(0o755)
        key, certificate, users = folder / "dagster.key", folder / "dagster.pem", folder / "dagster.htpasswd"
        made = f"req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN={NAME} -keyout {key} -out {certificate}"
        subprocess.run(["openssl", *made.split()], check=True, capture_output=True)
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True
        ).stdout
        users.write_text(f"{USER}:{hashed}")
        door = Door(free_port(), tls=True)
        text = SHIPPED.read_text(encoding="utf-8")
        for shipped, ours in {
            "listen 443 ": f"listen {HOST}:{door.port} ",
            "server 127.0.0.1:3000;": f"server {HOST}:{webserver.port};",
            "/etc/ssl/certs/dagster.pem": str(certificate),
            "/etc/ssl/private/dagster.key": str(key),
            "/etc/nginx/dagster.htpasswd": str(users),
        }.items():
            assert shipped in text, shipped
            text = text.replace(shipped, ours)
        (folder / "dagster.conf").write_text(text)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
        process = supervised(
            [nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
            env=dict(os.environ),
            cwd=folder,
            log=folder / "nginx.log",
            stop_signal=signal.SIGTERM,
        )
        try:
            wait_for(door, process)
            yield door
        finally:
            process.stop()


def runs_of(home: Path) -> list[dg.DagsterRun]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return list(instance.get_runs())
