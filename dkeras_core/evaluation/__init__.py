"""Distributed metrics in one pass, gates, champion against challenger, and the report."""
