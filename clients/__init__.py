"""What clients are made from: the committed OpenAPI documents, and the programs that generate clients' code."""
