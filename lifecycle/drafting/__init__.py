"""`lifecycle init`: a first draft of the declarations, proposed from a database that nobody has declared yet.

Belongs here: what the catalog and statistics suggest for each file, and how it is written beside what a person wrote.
Does not belong here: whether declarations and database agree (`lifecycle/checking`), and anything that writes into a
database. What is not sure, visible or destructive is proposed as a comment; a person takes the comment sign away.
"""
