"""Every error of the program, by what can be done about it.

Foreign errors (SQLAlchemy, paho, pybreaker) are translated once, at the adapter that meets them.
"""


class KktBridgeError(Exception):
    """The root; its text is one line for a person to read."""


class SettingsError(KktBridgeError):
    """The configuration cannot be used: the message names file, key and what was expected."""


class IllegalTransition(KktBridgeError):
    """A bug of ours: a state was to follow one it may not."""


class JournalError(KktBridgeError):
    """The journal could not do what was asked; nothing of it was kept."""


class StorageUnavailable(JournalError):
    """The disk is full, read-only or failing; heals when it does."""


class JournalLost(JournalError):
    """There was a journal here, and it is gone: no empty one may take its place unasked."""


class JournalInUse(JournalError):
    """Another bridge holds this journal."""


class JournalDamaged(StorageUnavailable):
    """The database file fails its own checks; an operator must look at it."""


class RegisterError(KktBridgeError):
    """Something between the lane and a fiscal register went otherwise than planned."""


class RegisterAway(RegisterError):
    """The register does not answer; nothing was begun there. Heals when it is back."""


class RegisterNotReady(RegisterError):
    """The register answers but cannot print now (no paper, busy, blocked); nothing was fiscalised.

    `problem` is a word for `state/kkt`, the text a hint for the operator.
    """

    def __init__(self, problem: str, message: str) -> None:
        super().__init__(message)
        self.problem = problem


class ReceiptRefused(RegisterError):
    """The register refused this receipt for good; nothing was fiscalised. `code` is the contract's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class InDoubt(RegisterError):
    """The register may or may not have made a fiscal document: only its own storage can tell."""


class StorageUnreadable(KktBridgeError):
    """A fiscal storage cannot be read whole, or does not say which one it is; the message names it."""


class BrokerAway(KktBridgeError):
    """No MQTT broker where one was expected, or it let us go."""
