"""The client that talks to a store by S3, made of what is declared and nothing else, and what its errors mean."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from botocore.loaders import Loader, create_loader
from botocore.session import Session

from lifecycle.cold.objects import ColdSettings
from lifecycle.errors import ColdStorageError

# A bucket that is away is told after three tries, within about a minute.
TRIES: Final = 3
CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 18
# What botocore would read otherwise, also where credentials are given: other endpoints, other accounts.
NO_FILES: Final = {
    "profile": (None, None, None, None),
    "config_file": (None, None, None, None),
    "credentials_file": (None, None, None, None),
}
WRONG_KEYS: Final = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
)
EXPIRED: Final = ("ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired")
CLOCK: Final = ("RequestTimeTooSkewed", "RequestExpired")
REGION: Final = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301")
FULL: Final = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "StorageFull", "507")
TOO_BIG: Final = ("EntityTooLarge", "413")
DAMAGED: Final = (
    "BadDigest",
    "InvalidDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "ChecksumMismatch",
)
ABSENT: Final = ("NoSuchKey", "404")
UNKNOWN: Final = (
    "NotImplemented",
    "MethodNotAllowed",
    "UnsupportedOperation",
    "InvalidRequest",
    "InvalidArgument",
    "400",
    "405",
    "501",
)


def session_of(settings: ColdSettings) -> Session:
    """Credentials for S3: those that are declared, or else the machine's own."""
    if bool(settings.access_key) != bool(settings.secret_key):
        raise ColdStorageError(
            "One of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set and the other is not. Set both, or neither "
            "where the machine has a role."
        )
    session = Session(session_vars=NO_FILES if settings.access_key else None)
    session.register_component("data_loader", _loader())
    if settings.access_key:
        session.set_credentials(settings.access_key, settings.secret_key, settings.session_token or None)
    return session


@cache
def _loader() -> Loader:
    """What botocore knows of S3. To read it takes longer than most requests."""
    return create_loader()


def client_of(session: Session, settings: ColdSettings) -> Any:
    """An S3 client with bounded patience. Checksums are ours, sent where they matter: other stores know no others."""
    endpoint = urlsplit(settings.endpoint)
    if settings.endpoint and (
        endpoint.scheme not in ("http", "https") or not endpoint.netloc or "@" in endpoint.netloc
    ):
        raise ColdStorageError(
            "AWS_ENDPOINT_URL_S3 is no URL such as https://storage.example.com: it needs http or https, a host, and no "
            "credentials. Correct it."
        )
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        retries={"mode": "standard", "total_max_attempts": TRIES},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        ignore_configured_endpoint_urls=True,
    )
    # Where the machine's own settings are looked for, they may name the region.
    found = "" if settings.access_key else session.get_config_variable("region")
    region = settings.region or found or "us-east-1"
    return session.create_client("s3", region_name=region, endpoint_url=settings.endpoint or None, config=config)


def code_of(error: ClientError) -> str:
    """The error's code in S3's words; its HTTP status where there is no other, as after HEAD."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if re.fullmatch(r"\w{1,60}", code) else str(status_of(error))


def status_of(error: ClientError) -> int:
    """The HTTP status of the answer; 0 where it is not known."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_absent(error: ClientError) -> bool:
    """Whether the store said that there is no such object; not, that there is no such bucket."""
    return code_of(error) in ABSENT


def is_unknown(error: ClientError) -> bool:
    """Whether the store does not know the request at all. Of credentials and buckets it says something else."""
    return code_of(error) in UNKNOWN


@contextmanager
def told(store: str, thing: str, permission: str) -> Iterator[None]:
    """What goes wrong with the store becomes a ColdStorageError about `thing`, in our words only.

    A store's answers may quote what was sent. `permission` is what the request needs.
    """
    try:
        yield
    except ClientError as error:
        raise _refused(error, store, thing, permission) from None
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError):
        raise ColdStorageError(
            f"{thing} in {store}: there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give "
            "the machine a role."
        ) from None
    except SSLError:
        raise ColdStorageError(
            f"{thing} in {store}: its certificate is not accepted. Correct AWS_ENDPOINT_URL_S3, or name the authority "
            "in AWS_CA_BUNDLE."
        ) from None
    except BotoCoreError as error:
        raise ColdStorageError(
            f"{thing} in {store}: the store gives no answer ({type(error).__name__}). Nothing that it did not confirm "
            "counts. Run this again when it answers; if it never does, correct AWS_ENDPOINT_URL_S3.",
            temporary=True,
        ) from None


def _refused(error: ClientError, store: str, thing: str, permission: str) -> ColdStorageError:
    code, status = code_of(error), status_of(error)
    for codes, words in MEANINGS.items():
        if code in codes or str(status) in codes:
            return ColdStorageError(f"{thing} in {store}: {words}", temporary=codes in (FULL, DAMAGED))
    if code == "NoSuchBucket":
        return ColdStorageError(
            f"{thing}: the bucket of {store} is not there. Nothing was done. Correct LIFECYCLE_COLD_URL, or make "
            "the bucket."
        )
    if status == 403:
        return ColdStorageError(
            f"{thing} in {store}: access is refused ({code}). Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            f"allow them {permission}."
        )
    if code in ABSENT:
        return ColdStorageError(
            f"{thing} is gone from {store}. Nothing was read. Bring that object back from a copy of the store, then "
            "run this again."
        )
    answer = code if code == str(status) else f"{status} {code}"
    return ColdStorageError(
        f"{thing} in {store}: the store answers {answer}. Nothing that it did not confirm counts. Run this again; if "
        "it stays so, look at the store's own log.",
        temporary=status in (409, 429) or status >= 500,
    )


MEANINGS: Final[Mapping[tuple[str, ...], str]] = {
    WRONG_KEYS: "it refuses the credentials. Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    EXPIRED: "the credentials have expired. Renew them, AWS_SESSION_TOKEN among them.",
    CLOCK: "this machine's clock and the store's differ. Set the clock of this machine, then run this again.",
    REGION: "it belongs to another region. Correct AWS_REGION.",
    FULL: "the store is full. Nothing half-written counts. Make room, or raise the quota, then run this again.",
    TOO_BIG: "it is larger than the store takes. Raise the store's limit for one object, then run this again.",
    DAMAGED: "what arrived is not what was sent, and the store did not take it. Run this again.",
}
