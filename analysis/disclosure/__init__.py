"""What a sweep discloses: every file that it writes, column by column, classed by what it says of private data."""
