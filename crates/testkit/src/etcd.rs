//! A real etcd on loopback, one per test.
