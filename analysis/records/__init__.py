"""What a trial leaves on disk: columns, vocabularies, writers, checksums, and the reader of each file."""
