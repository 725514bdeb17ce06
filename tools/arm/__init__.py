"""Arm on an x86 machine: Debian for arm64 with real aarch64 wheels, run by QEMU (`make test-arm`)."""
