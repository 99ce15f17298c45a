"""The scenario language: YAML text to a `Scenario` and back, with no chain in sight."""
