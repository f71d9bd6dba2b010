"""The report of a sweep: sections, sentences, tables, and the HTML page."""
