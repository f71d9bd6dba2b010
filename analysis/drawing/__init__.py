"""Figure descriptions without data: marks, axes and colours, and backends that render them."""
