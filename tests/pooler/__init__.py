"""Every process with a real PgBouncer in transaction mode between it and its databases."""
