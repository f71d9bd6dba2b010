"""What is told of a sweep: sections, sentences, tables, the page."""
