"""The verbs of the `getam` command, one module each: `add` describes the verb and its options, `_run` runs it."""
