"""`python -m tests.consistency`: many clients write and read while servers lag, die and forget; then a checker holds
what each of them was told against what had been written."""
