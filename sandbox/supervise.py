"""Run a program so that it never outlives whoever started it.

Between the caller and the program stands this file, run as a script. It holds a pipe from the caller; when the
pipe closes (the caller ended, even by kill -9) it stops the program's whole process group. Where Linux offers it,
the kernel stops the program too when the supervisor itself is killed.
"""

import ctypes
import json
import os
import pwd
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Longer than the script needs to start Python and fork, even on a machine that is starved of CPU.
START_PATIENCE: Final = 30.0


@dataclass(frozen=True)
class SupervisedProcess:
    """A running program. `pid` is the program's own; its supervisor is `supervisor.pid`."""

    pid: int
    log: Path
    supervisor: subprocess.Popen[bytes]
    grace: float

    def poll(self) -> int | None:
        """The program's exit code (negative: the signal that ended it), or None while it runs."""
        return self.supervisor.poll()

    def stop(self) -> int:
        """Stop the program and everything in its process group; return its exit code. Safe to repeat."""
        if self.supervisor.stdin is not None:
            self.supervisor.stdin.close()
        try:
            return self.supervisor.wait(self.grace + START_PATIENCE)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            return self.supervisor.wait()


def supervised(
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    stop_signal: signal.Signals = signal.SIGTERM,
    user: str | None = None,
    grace: float = 20.0,
) -> SupervisedProcess:
    """Start `args` in its own session under a supervisor and return at once.

    Output is appended to `log`. Stopping sends `stop_signal` to the process group, and SIGKILL after `grace`
    seconds. `user` names an existing account to run as (root only). Raises OSError when it cannot be started.
    """
    options = {
        "args": list(args),
        "cwd": str(cwd),
        "log": str(log),
        "stop_signal": int(stop_signal),
        "user": user,
        "grace": grace,
    }
    supervisor = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(env),
        cwd="/",
        # A Ctrl-C on the terminal goes to the caller alone; the caller decides when the program stops.
        start_new_session=True,
    )
    if supervisor.stdout is None:
        raise OSError("the supervisor has no output pipe")
    with supervisor.stdout:
        readable, _, _ = select.select([supervisor.stdout], [], [], START_PATIENCE)
        answer = supervisor.stdout.readline().decode().strip() if readable else ""
    if not answer.isdigit():
        supervisor.kill()
        supervisor.wait()
        raise OSError(f"{args[0]} did not start: {answer or 'its supervisor gave no answer'}")
    return SupervisedProcess(pid=int(answer), log=log, supervisor=supervisor, grace=grace)


def _child_setup(death_signal: int) -> Callable[[], None]:
    """What the program's process does between fork (and change of user) and exec."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    supervisor = os.getpid()

    def setup() -> None:
        # A shell's background job ignores SIGINT, and an ignored signal stays ignored across exec.
        for number in (*STOP_SIGNALS, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != supervisor:
                os._exit(1)

    return setup


def _start(options: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    account: dict[str, Any] = {}
    if options["user"]:
        entry = pwd.getpwnam(options["user"])
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    with open(options["log"], "ab") as log:
        return subprocess.Popen(
            options["args"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=options["cwd"],
            start_new_session=True,
            preexec_fn=_child_setup(options["stop_signal"]),
            **account,
        )


def _signal_group(group: int, number: int) -> bool:
    """Signal every process of the group; False when none is left."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _watch(target: subprocess.Popen[bytes], wake: socket.socket, parent: int) -> None:
    """Return when the program ended, the caller is gone, or someone asked to stop."""
    caller = sys.stdin.fileno()
    while target.poll() is None:
        # The timeout serves one case: a fork of the caller still holds the pipe open after the caller died.
        readable, _, _ = select.select([caller, wake], [], [], 1.0)
        if wake in readable and any(number in STOP_SIGNALS for number in wake.recv(256)):
            return
        if caller in readable and not os.read(caller, 256):
            return
        if os.getppid() != parent:
            return


def main(arguments: Sequence[str]) -> int:
    """The supervisor's own life; returns the program's exit code."""
    parent = os.getppid()
    options = json.loads(arguments[0])
    wake, wake_writer = socket.socketpair()
    wake_writer.setblocking(False)
    signal.set_wakeup_fd(wake_writer.fileno(), warn_on_full_buffer=False)
    for number in (*STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    try:
        target = _start(options)
    except (OSError, KeyError, subprocess.SubprocessError) as error:
        os.write(1, f"{error}\n".encode())
        return 127
    os.write(1, f"{target.pid}\n".encode())
    os.close(1)
    _watch(target, wake, parent)
    _signal_group(target.pid, options["stop_signal"])
    try:
        target.wait(options["grace"])
    except subprocess.TimeoutExpired:
        _signal_group(target.pid, signal.SIGKILL)
    # Children that outlive their leader get two more seconds.
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline and _signal_group(target.pid, 0):
        time.sleep(0.05)
    _signal_group(target.pid, signal.SIGKILL)
    return target.wait()


def _exit_like(code: int) -> None:
    """Leave with the program's exit code, or die by the signal that ended it."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    _exit_like(main(sys.argv[1:]))
