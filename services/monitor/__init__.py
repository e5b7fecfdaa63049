"""The monitor process: what happened over time.

Job: count what schedulers commit, exactly once, into roll-ups per minute, and show them.
Reads: commits after its cursors (the hints on NATS only say when to look), node types from versions.
Writes: roll-ups and its cursors, both in one transaction.
Never: trusts a message for a number, decides anything, reads a payload.
"""
