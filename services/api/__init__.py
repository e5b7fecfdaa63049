"""The api process: the public contract.

Job: identity, validation, workflows; accepts executions and commands; reads, waits and watches.
Reads: workflows, open and finished executions, history, logs, verdicts; commit hints, live logs, heartbeats.
Writes: workflows and their versions, idempotency keys, open executions (insert), commands (insert); nudges.
Never: decides; updates an execution; answers from a hint (hints only wake, rows answer).
"""
