"""Every error this project raises on purpose. The docstring says what the reader should do."""


class LifecycleError(Exception):
    """Base of all errors below; the message names the object, the cause and the next step."""


class RefusedError(LifecycleError):
    """The operation would lose something or is not possible here. Retrying changes nothing; read the message."""


class BusyError(LifecycleError):
    """Another session held a lock for longer than all tries. Nothing was changed; run it again later."""


class AlreadyRunningError(LifecycleError):
    """The same operation runs in another session. Wait for it, or end that session, then run it again."""


class VerificationError(LifecycleError):
    """Copied rows differ from their source. Nothing was switched over and nothing was dropped."""


class RefreshError(LifecycleError):
    """A database function reported an error. It is in audit_events too; correct the cause, then run it again."""


class SandboxError(LifecycleError):
    """The throwaway PostgreSQL could not be found, started or filled."""
