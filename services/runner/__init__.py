"""The runner: hosts handlers and runs attempts.

Job:    pull tasks as far as slots are free, run each attempt once, tell its owner how it ended until that is settled.
Reads:  the task queues it is told to serve; verdicts, answers and control messages of owners (`wc.runner.<id>.*`).
Writes: results, log lines and asks to the owners of shards; beats. Whatever its handlers call.
Never:  the database; an acknowledgement before the verdict; a decision about an execution.
"""
