"""Figures: what each one shows is described once, in `drawing`, and drawn by plotly or by matplotlib."""
