"""Threats: the sets that an attacker may move in. They stand on the ground alone."""
