"""The scheduler process: decides, one writer per execution.

Job: take accepted executions, results and commands; decide; commit; then dispatch, answer and hint.
Reads: open executions, histories, versions, the inbox; results, logs, asks and beats of runners.
Writes: history, open and finished executions, logs, commits, its session and shards; tasks, verdicts, hints.
Never: runs a node, answers before the commit that its answer rests on, takes a shard from a living session.
"""
