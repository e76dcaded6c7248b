"""The ground every room stands on: rows, steps, asks, recipes, names, fingerprints, errors and the ledger."""
