"""The server and its supervisor: nothing outlives its starter, nothing of others is touched, failures are told."""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from lifecycle.errors import SandboxError
from sandbox.binaries import Binaries, available_binaries, find_binaries
from sandbox.placement import PLACES, PREFIX, place, remove_abandoned_places
from sandbox.server import Server
from sandbox.supervise import SupervisedProcess, supervised

ROOT = Path(__file__).parents[1]
IS_ROOT = os.geteuid() == 0
# A shell's background job ignores SIGINT, a worker of pytest may ignore SIGTERM; both would be inherited.
SERVER_SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from pathlib import Path
from sandbox.server import Server
try:
    with Server(Path(sys.argv[1])) as server:
        print(server.pid, flush=True)
        time.sleep(120)
except KeyboardInterrupt:
    sys.exit(7)
"""


def alive(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone_soon(pid: int, patience: float = 20.0) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if not alive(pid):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path: Path) -> Iterator[None]:
    """What a durable server keeps goes with the test."""
    yield
    shutil.rmtree(tmp_path / "pg", ignore_errors=True)
    if IS_ROOT:
        remove_abandoned_places()


@pytest.fixture
def start_server_process(tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], int]]]:
    """Start a Python that starts a server; gives the Python and the postmaster's pid."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER_SCRIPT, str(tmp_path / "pg")],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_its_parent(start_server_process, number):
    parent, postmaster = start_server_process()
    assert alive(postmaster)
    parent.send_signal(number)
    parent.wait(30)
    assert gone_soon(postmaster)
    # A parent that was killed left the folder as it was: the next server in it starts.
    _again, postmaster = start_server_process()
    assert alive(postmaster)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_server_ends_when_its_supervisor_is_killed(tmp_path):
    with Server(tmp_path / "pg") as server:
        assert server._process is not None
        server._process.supervisor.kill()
        assert gone_soon(server.pid)


@pytest.mark.parametrize("binaries", available_binaries(), ids=lambda binaries: f"pg{binaries.version}")
def test_reopening_a_folder_keeps_its_data(tmp_path, binaries: Binaries):
    folder = tmp_path / "pg"
    with Server(folder, bin_dir=binaries.folder, durable=True) as server:
        assert server.version == binaries.version
        with psycopg.connect(server.url(user="supabase_admin")) as conn:
            conn.execute("create table kept as select 1 as one")
        first_url, data = server.url(user="supabase_admin"), server.data
    with Server(folder, bin_dir=binaries.folder, durable=True) as server:
        assert server.data == data
        with psycopg.connect(server.url(user="supabase_admin")) as conn:
            assert conn.execute("select one from kept").fetchone() == (1,)
        assert server.url(user="supabase_admin").split("@")[0] == first_url.split("@")[0]
        assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600


def test_a_seed_is_copied_and_left_as_it_was():
    # Open to the account that a server of root's runs as: its data lie in the folder itself then.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        seed = Path(folder) / "seed"
        with Server(seed, durable=True) as server, psycopg.connect(server.url(user="supabase_admin")) as conn:
            conn.execute("create table kept as select 1 as one")
        before = sorted(seed.rglob("*"))
        for name in ("first", "second"):
            copy = Server(Path(folder) / name, seed=seed)
            with copy as server, psycopg.connect(server.url(user="supabase_admin")) as conn:
                assert conn.execute("select one from kept").fetchone() == (1,)
                conn.execute("drop table kept")
        assert sorted(seed.rglob("*")) == before


def test_a_crash_and_a_stale_pid_file_do_not_matter(tmp_path):
    server = Server(tmp_path / "pg", durable=True).start()
    os.kill(server.pid, signal.SIGKILL)
    assert gone_soon(server.pid)
    assert server._process is not None
    server._process.supervisor.wait(10)
    pid_file = server.data / "postmaster.pid"
    assert pid_file.exists()
    # Some other program got the number meanwhile, as happens in containers.
    pid_file.write_text(pid_file.read_text().replace(str(server.pid), str(os.getppid()), 1))
    with Server(tmp_path / "pg", durable=True) as again, psycopg.connect(again.url()) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_two_servers_do_not_share_a_folder(tmp_path, monkeypatch):
    with Server(tmp_path / "pg"):
        monkeypatch.setattr("sandbox.predecessor.wait_for_predecessor.__defaults__", (0.2,))
        with pytest.raises(SandboxError, match="a server already runs in"):
            Server(tmp_path / "pg").start()


def test_only_tcp_on_the_loopback_address(tmp_path):
    with Server(tmp_path / "pg", settings={"work_mem": "5MB"}) as server:
        with psycopg.connect(server.url()) as conn:
            settings = [
                conn.execute("select current_setting(%s)", (name,)).fetchall()[0][0]
                for name in ("listen_addresses", "unix_socket_directories", "timezone", "work_mem", "fsync")
            ]
            assert settings == ["127.0.0.1", "", "UTC", "5MB", "off"]
            assert conn.execute("select rolsuper from pg_roles where rolname = 'postgres'").fetchone() == (False,)
        assert server.url("app", driver="psycopg").startswith("postgresql+psycopg://postgres:")


def permissions(path: Path) -> dict[Path, tuple[int, int, int]]:
    return {
        each: (status.st_mode, status.st_uid, status.st_gid)
        for each in (path, *path.parents)
        for status in [each.stat()]
    }


def test_foreign_folders_keep_their_permissions(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = permissions(closed) | permissions(find_binaries().folder)
    with Server(closed / "pg") as server, psycopg.connect(server.url()) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
        outside = server.data if not server.data.is_relative_to(closed) else None
    assert permissions(closed) | permissions(find_binaries().folder) == before
    assert (outside is not None) == IS_ROOT
    assert outside is None or not outside.exists()


@pytest.mark.skipif(not IS_ROOT, reason="only root needs binaries that every account can reach")
def test_root_uses_binaries_in_a_closed_folder(tmp_path):
    source = find_binaries().folder
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = closed / source.parents[1].name
    shutil.copytree(source.parent, package / source.parent.name, symlinks=True)
    libraries = source.parents[2] / f"{source.parents[1].name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, closed / libraries.name)
    accounts = [entry.pw_name for entry in pwd.getpwall()]
    with Server(tmp_path / "pg", bin_dir=package / source.parent.name / source.name) as server:
        assert Path(f"/proc/{server.pid}/exe").resolve().is_relative_to(PLACES)
        assert pwd.getpwuid(Path(f"/proc/{server.pid}").stat().st_uid).pw_name in ("postgres", "nobody")
    assert [entry.pw_name for entry in pwd.getpwall()] == accounts


@pytest.mark.skipif(not IS_ROOT, reason="only root places data elsewhere")
def test_places_of_vanished_folders_are_removed(tmp_path):
    tmp_path.chmod(0o700)
    placement = place(tmp_path / "pg", find_binaries())
    assert placement.place is not None
    assert placement.place.name.startswith(PREFIX)
    remove_abandoned_places()
    assert placement.place.exists()
    shutil.rmtree(tmp_path / "pg")
    remove_abandoned_places()
    assert not placement.place.exists()


@pytest.mark.every_version
def test_failures_say_what_was_tried_and_why(tmp_path):
    with pytest.raises(SandboxError, match=r"no usable PostgreSQL >= 15 in .*tried: .*No such file"):
        find_binaries(tmp_path)
    with pytest.raises(SandboxError, match="unrecognized configuration parameter"):
        Server(tmp_path / "pg", settings={"no_such_setting": "1"}).start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SandboxError, match="Address already in use"):
            Server(tmp_path / "pg", port=taken.getsockname()[1]).start()
    with pytest.raises(SandboxError, match="call start"):
        Server(tmp_path / "pg").url()


def test_an_old_postgres_is_refused(tmp_path):
    for name in ("postgres", "initdb"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.1'\n")
        program.chmod(0o755)
    with pytest.raises(SandboxError, match=r"is postgres \(PostgreSQL\) 14.1"):
        find_binaries(tmp_path)


def test_data_of_another_version_is_refused(tmp_path):
    with Server(tmp_path / "pg", durable=True) as server:
        data = server.data
    (data / "PG_VERSION").write_text("12\n")
    with pytest.raises(SandboxError, match="was made by PostgreSQL 12"):
        Server(tmp_path / "pg", durable=True).start()


def run(
    tmp_path: Path, code: str, stop_signal: signal.Signals = signal.SIGTERM, grace: float = 20.0
) -> SupervisedProcess:
    log = tmp_path / "log"
    command = [sys.executable, "-c", code]
    process = supervised(command, env=os.environ, cwd=tmp_path, log=log, stop_signal=stop_signal, grace=grace)
    deadline = time.monotonic() + 60
    while b"ready" not in log.read_bytes() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def test_supervised_passes_the_exit_code_and_the_output_on(tmp_path):
    process = run(tmp_path, "import os; print('ready', os.getcwd(), flush=True); os._exit(3)")
    assert process.supervisor.wait(20) == 3
    assert process.poll() == 3
    assert str(tmp_path) in process.log.read_text()
    with pytest.raises(OSError, match="no-such-program"):
        supervised(["no-such-program"], env=os.environ, cwd=tmp_path, log=tmp_path / "log")


def test_supervised_stops_the_whole_group(tmp_path):
    code = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'])
print('ready', child.pid, flush=True)
time.sleep(120)
"""
    process = run(tmp_path, code)
    child = int(process.log.read_text().split()[1])
    assert alive(process.pid)
    assert alive(child)
    assert process.stop() == -signal.SIGTERM
    assert gone_soon(process.pid)
    assert gone_soon(child)
    assert process.stop() == -signal.SIGTERM


def test_supervised_kills_what_ignores_the_signal(tmp_path):
    code = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
time.sleep(120)
"""
    process = run(tmp_path, code, grace=0.5)
    assert process.stop() == -signal.SIGKILL
    assert gone_soon(process.pid)


def test_supervised_restores_default_signals(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = run(tmp_path, "import time; print('ready', flush=True); time.sleep(120)", stop_signal=signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    process.stop()
    assert "KeyboardInterrupt" in process.log.read_text()
