"""The one-machine launcher: embedded NATS and PostgreSQL from wheels, and the four services as processes.

Job: start, watch and end them together. Reads: the state directory. Writes: the state directory, nothing else.
Never: takes part in an execution; every process it starts runs the same elsewhere without it.
"""
