"""The output folder: ledger, listing, locks, deletion journal, what differs from what is asked for."""
