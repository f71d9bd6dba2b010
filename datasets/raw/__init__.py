"""Raw files as they are handed out: archives, pictures, tables, downloads."""
