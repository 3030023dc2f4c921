"""The command `lifecycle`: one file a group of commands, what they print beside them.

Belongs here: reading arguments, printing. Does not belong here: the work itself (lifecycle/). Imports of a command's
work stand inside the command, so that `lifecycle --help` answers at once.
"""
