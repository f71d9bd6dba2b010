"""The sweep as a typed object: its sections and the configs at each point of its dimensions."""
