"""What is true of one application, as its folder of YAML files says it: models, loader, JSON Schema.

Belongs here: the form of the declarations and whether they agree with each other. Does not belong here: whether they
agree with a database (`lifecycle check`), and what is done about them (each capability's own folder).
"""
