"""Every error this project raises on purpose. The docstring says what the reader should do."""


class LifecycleError(Exception):
    """Base of all errors below; the message names the object, the cause and the next step."""

    @property
    def told(self) -> str:
        """The message; where it was made of a phrase, that phrase, which somebody may read in another language."""
        message: str = self.args[0]
        return message


class DeclarationError(LifecycleError):
    """A file of declarations says something that cannot be. The message names file, line and key; correct it there."""


class RefusedError(LifecycleError):
    """The operation would lose something or is not possible here. Retrying changes nothing; read the message."""


class BusyError(LifecycleError):
    """Another session held a lock for longer than all tries. Nothing was changed; run it again later."""


class UnreachableError(BusyError):
    """The database took no connection, or lost one. Nothing is wrong with the work; it goes on when it answers."""


class AlreadyRunningError(LifecycleError):
    """The same operation runs in another session. Wait for it, or end that session, then run it again."""


class VerificationError(LifecycleError):
    """Copied rows differ from their source. Nothing was switched over and nothing was dropped."""


class RefreshError(LifecycleError):
    """A database function reported an error. It is in the ledger too; correct the cause, then run it again."""


class ColdStorageError(LifecycleError):
    """The store of cold months did not do what it was asked, or what it holds is not what was put there.

    Nothing counts as stored, or as removed, that it did not confirm. `temporary`: waiting may cure it, as when it is
    away or answers that it is busy; everything else wants somebody to change something.
    """

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


class SandboxError(LifecycleError):
    """A program that we start ourselves, the throwaway PostgreSQL or Dagster's, was not found, started or filled."""


class NotDeliveredError(LifecycleError):
    """Slack did not take a message. It stays in the outbox; the message says what to change when waiting is no cure.

    `code` is Slack's word for it. `retry_after` is how many seconds Slack asked to wait. `in_doubt`: no answer came,
    so Slack may have the message all the same. `permanent`: waiting alone cures nothing.
    """

    def __init__(
        self, message: str, *, code: str = "", retry_after: float = 0, in_doubt: bool = False, permanent: bool = False
    ) -> None:
        super().__init__(message)
        self.code, self.retry_after, self.in_doubt, self.permanent = code, retry_after, in_doubt, permanent
