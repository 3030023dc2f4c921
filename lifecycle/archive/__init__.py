"""The archive of chat messages: moving them in, reading and bringing them back, and how it stands.

Not here: what is done to the rows of a person who is erased, and the statistics, which do not see where a message lies.
"""
