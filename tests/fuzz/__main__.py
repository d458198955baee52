"""Thousands of mutations: python -m tests.fuzz [COUNT] [SEED]; the status is 1 if there is a finding."""

import resource
import sys

from tests.fuzz.outcomes import outcomes, table

count, seed = (int(word) for word in (*sys.argv[1:], *("3000", "0")[len(sys.argv) - 1 :]))
found = list(outcomes(count, seed))
for (target, outcome), number in sorted(table(found).items()):
    print(f"{target:12}{outcome:10}{number:6}")
findings = [one for one in found if one[3][0] == "!"]
for target, file, change, outcome, number in findings[:50]:
    print(f"seed {seed}, number {number}: {target}, {file}, {change}: {outcome[:300]}")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"{len(found)} mutations, {len(findings)} findings, {peak:.1f} GB at most")
sys.exit(bool(findings) or peak > 2)
