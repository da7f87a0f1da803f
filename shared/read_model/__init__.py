"""The read database's contract: names of tables, their columns, and the filters over them."""
