//! The store on SQLite and on a real PostgreSQL: the same stories on both.

#[macro_use]
mod support;

mod store {
    mod attacks;
    mod certificates;
    mod clash;
    mod evidence;
    mod exchange;
    mod files;
    mod filter;
    mod keys;
    mod keys_seen;
    mod ledger;
    mod network;
    mod odd_entries;
    mod parity;
    mod people;
    mod rights;
    mod runs;
    mod sessions;
    mod tamper;
    mod tasks;
    mod tokens;
    mod walk;
}
