"""What is drawn of a sweep: one module for each kind of figure, and the table of all."""
