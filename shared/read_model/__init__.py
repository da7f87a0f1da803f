"""The read database's contract: names of tables, their columns, and how a filter becomes SQL."""
