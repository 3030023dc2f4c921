"""Logs of programs that run for days have an end."""

import sys
import time
from pathlib import Path

from orchestration.logs import rotate_logs
from sandbox.supervise import supervised

WRITES = "import time\nfor n in range(10**6):\n    print(f'line {n}', flush=True)\n    time.sleep(0.001)"


def test_a_log_that_has_grown_is_put_beside_while_its_program_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "program.log"
    (tmp_path / "short.log").write_text("a line\n")
    program = supervised([sys.executable, "-c", WRITES], env={}, cwd=tmp_path, log=log)
    try:
        for _ in range(2):
            deadline = time.monotonic() + 60
            while log.stat().st_size <= 2000:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            before = log.read_text().splitlines()[-2]
            assert rotate_logs(tmp_path, 2000) == [log]
            assert before in (tmp_path / "program.log.1").read_text().splitlines()
        assert program.poll() is None
    finally:
        program.stop()
    # Without holes: the program appends, wherever it was before.
    assert not log.read_bytes().startswith(b"\0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.log", "program.log.1", "short.log"]
    assert (tmp_path / "short.log").read_text() == "a line\n"
