"""Configuration: one TOML file, validated whole, frozen into a snapshot with a generation."""
