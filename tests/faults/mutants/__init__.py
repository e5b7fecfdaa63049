"""Services with one rule broken on purpose, so that tests can show that they would notice.

`python -m tests.faults.mutants MUTANT KIND` runs a service after patching it. Nothing of this is in the product.
"""
