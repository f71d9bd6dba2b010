"""The prepared dataset on disk: layout, location, writing, reading."""
