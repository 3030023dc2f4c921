"""How each job ended, in the ledger that the application declares; what fails at present; the outbox of messages.

Not here: how a message looks and reaches Slack (sensors/, resources/).
"""
