"""Alembic's entry; `shared.migrations.upgrade` has opened the connection and configured the context."""

from alembic import context

with context.begin_transaction():
    context.run_migrations()
