//! End-to-end tests: the programs as a user runs them, on a software TPM, with SQLite and with etcd. All of it is in `tests/line`.
