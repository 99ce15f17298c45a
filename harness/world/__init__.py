"""Plays a scenario on a chain, and writes the ledger."""
