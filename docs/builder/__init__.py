"""Makes a site of docs/: fills in what is generated from the code, builds strictly, checks every link."""
