"""What the suites stand on: processes, clients and origins, each a small module."""
