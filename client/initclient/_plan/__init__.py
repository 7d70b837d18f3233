"""What users pass as a plan: inputs, rules, streams pinned to names, rescaling."""
