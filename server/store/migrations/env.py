"""Alembic's entry: runs the migrations on the connection that the server opened.

Data flow: store/database -> this -> versions -> tables as in schema.
"""

from alembic import context

from server.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
