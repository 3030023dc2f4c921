"""The logs of programs that we start, which may run for days."""

import os
import shutil
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 10_000_000


def rotate_logs(folder: Path, most_bytes: int = MOST_BYTES) -> list[Path]:
    """Put each log that has grown past its size beside, as NAME.log.1 in the place of the last one; which were.

    The programs go on writing into the same file: it is emptied, since they cannot be told to open another. A line
    that is written between the copy and that is lost.
    """
    rotated = []
    for log in (*folder.glob("*.log"), *folder.glob("*/*.log")):
        if log.stat().st_size > most_bytes:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)
            rotated.append(log)
    return rotated
