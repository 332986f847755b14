"""`python -m bench`: the engine against its peers, in one run; `--long` adds a million states."""
