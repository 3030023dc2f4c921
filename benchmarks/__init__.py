"""One script per claim: what this project does to a busy table, against what one would use instead.

Every figure is printed beside its baseline, measured in the same run under the same load. Nothing here is a test:
figures depend on the machine, and only the tests decide whether a change is right.
"""
