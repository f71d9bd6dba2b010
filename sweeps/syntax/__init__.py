"""The sweep file as text: YAML with limits, overrides, errors with their places, names, paths, dimensions."""
