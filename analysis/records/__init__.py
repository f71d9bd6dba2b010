"""Files of a trial: columns, vocabularies, writers, checksums, and a reader for each file."""
